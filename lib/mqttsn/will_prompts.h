// SPDX-License-Identifier: BSD-3-Clause
/// The clients that have sent a CONNECT with a will and are being asked for it. Internal to
/// lib/mqttsn.
///
/// Such a client has no session yet, so anybody can make an entry. The table of a worker therefore
/// has a fixed number of places, one source gets only some of them, a client that says nothing more
/// loses its place after a while, and the oldest gives its place up when a newcomer finds none. So
/// a stranger who forges addresses has to fill the table within the time of one handshake. One map
/// for all workers names the worker that asks a client, because a client without a connection is
/// known by its address only.
///
/// Thread-safety: each table belongs to its worker. Any thread may ask the map.
#pragma once
#include <algorithm>
#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <string_view>
#include <vector>

#include "base/client_address.h"
#include "map/seq_map.h"
#include "mqttsn/gateway.h"

namespace chainring::mqttsn {

/// A CONNECT whose will is asked for.
struct will_prompt {
  client_address from; ///< 0 means that the place is free
  std::uint64_t source = 0;
  std::uint64_t received_tsc = 0; ///< when the CONNECT was received
  std::uint64_t expires_tsc = 0;
  std::uint16_t connect_size = 0, topic_size = 0;
  bool topic_known = false;           ///< the client was asked for the message
  flags topic_flags;                  ///< QoS and retain flag of the will
  std::array<std::byte, 120> connect; ///< the CONNECT as a datagram
  std::array<char, topic_length_max> topic;

  [[nodiscard]] std::string_view name() const noexcept { return {topic.data(), topic_size}; }
};

class will_prompts {
 public:
  /// Maps the address of a client that is asked for its will to a place, counted over all workers.
  using place_map = seq_map<client_address, std::uint32_t>;

  will_prompts(place_map& places, unsigned worker, std::uint32_t prompts_max,
               std::uint32_t per_source_max)
      : places_(places), first_(worker * prompts_max), per_source_max_(per_source_max),
        prompts_(prompts_max), sources_(prompts_max), made_(prompts_max) {
    for (std::uint32_t i = prompts_max; i-- > 0;)
      free_.push_back(i);
  }

  /// Returns the prompt of the client at this address, or nullptr.
  [[nodiscard]] will_prompt* find(const client_address& from) noexcept {
    if (used() == 0) return nullptr;
    const auto place = places_.get(from);
    if (!place || *place < first_ || *place - first_ >= prompts_.size()) return nullptr;
    will_prompt& p = prompts_[*place - first_];
    return p.from == from ? &p : nullptr;
  }
  /// Returns a prompt for the client at this address, in the place of one that it has, or of the
  /// one that was made longest ago when there is no other. Returns nullptr when its source has as
  /// many as it may.
  [[nodiscard]] will_prompt* begin(const client_address& from, std::uint64_t source) noexcept {
    if (will_prompt* const former = find(from)) erase(*former);
    if (std::ranges::count(sources_, source_plus_1(source)) >= per_source_max_) return nullptr;
    if (free_.empty()) {
      ++given_up_;
      erase(prompts_[static_cast<std::size_t>(std::ranges::min_element(made_) - made_.begin())]);
    }
    const std::uint32_t i = free_.back();
    const auto status = places_.alter(from, [&](std::optional<std::uint32_t>& now) {
      now = first_ + i; // the place in another worker's table expires
      return map_status::done;
    });
    if (status != map_status::done) return nullptr;
    free_.pop_back();
    will_prompt& p = prompts_[i];
    p.from = from;
    p.source = source;
    p.topic_known = false;
    p.topic_size = 0;
    sources_[i] = source_plus_1(source);
    made_[i] = ++made_in_all_;
    return &p;
  }
  void erase(will_prompt& p) noexcept {
    const auto i = static_cast<std::uint32_t>(&p - prompts_.data());
    places_.alter(p.from, [&](std::optional<std::uint32_t>& now) {
      if (!now || *now != first_ + i) return map_status::mismatch;
      now.reset();
      return map_status::done;
    });
    p.from = 0;
    sources_[i] = 0;
    free_.push_back(i);
  }
  /// Erases the prompts that have expired, and returns how many they were.
  std::uint32_t erase_expired(std::uint64_t now_tsc) noexcept {
    if (used() == 0) return 0;
    std::uint32_t erased = 0;
    for (will_prompt& p : prompts_)
      if (p.from != 0 && p.expires_tsc <= now_tsc) {
        erase(p);
        ++erased;
      }
    return erased;
  }
  /// How many prompts were given up since the last call, so that newcomers got their places.
  [[nodiscard]] std::uint64_t take_given_up() noexcept { return std::exchange(given_up_, 0); }
  [[nodiscard]] std::size_t used() const noexcept { return prompts_.size() - free_.size(); }

 private:
  /// The sources of free places are 0.
  static std::uint64_t source_plus_1(std::uint64_t source) noexcept { return source + 1; }

  place_map& places_;
  const std::uint32_t first_, per_source_max_;
  std::vector<will_prompt> prompts_;
  std::vector<std::uint64_t> sources_; ///< like `prompts_`, close together for counting
  std::vector<std::uint64_t> made_;    ///< the order in which they were made, likewise
  std::vector<std::uint32_t> free_;
  std::uint64_t made_in_all_ = 0, given_up_ = 0;
};

} // namespace chainring::mqttsn
