// SPDX-License-Identifier: BSD-3-Clause
/// What was sent, what was acknowledged, what came; and the verdict.
///
/// Messages are named {publisher, sequence}, sequences starting at 1. Publisher p publishes to
/// topic p % topics; subscriber s subscribes to topic s % topics, or to all by a wildcard. A
/// publisher has one message outstanding at QoS 1, so what is acknowledged is 1..acked, and a
/// message sent but not acknowledged is acked + 1.
///
/// **Owed** to a subscriber is each acknowledged message sent after its subscription was
/// acknowledged and not delivered to it. What is owed after draining is lost.
///
/// **Memory** is fixed at create(): one bit per message and subscriber of a window of sequences per
/// publisher. Below the window everything is acknowledged and delivered; a publisher whose window
/// is full must wait (at QoS 0 and -1, where nothing is owed, the window moves on instead).
///
/// **Lives.** Each resumption is a life. When a process dies without writing its ledger, messages
/// that it sent after its last write may still come (`unlisted`, which breaks nothing), and
/// messages whose delivery it did not write down are `in_doubt` instead of lost.
///
/// Not thread-safe. Only create(), from_json() and to_json() allocate.
#pragma once
#include <array>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "base/error.h"
#include "payload.h"

namespace chainring::gen {

/// What is equal in every run that works on one ledger.
struct shape {
  std::uint32_t publishers = 1;
  std::uint32_t subscribers = 1;
  std::uint32_t topics = 1;
  bool wildcard = false;
  bool clean = false;             ///< clean sessions: a broker that forgets us owes nothing older
  int qos = 1;                    ///< 1, 0 or -1
  std::uint32_t payload_min = 64; ///< octets
  std::uint32_t payload_max = 64;
  std::uint64_t seed = 1;
  std::string prefix = "gen"; ///< of client ids and topics

  friend bool operator==(const shape&, const shape&) = default;
};

enum class delivery_kind : std::uint8_t {
  fresh,
  duplicate,
  unlisted,  ///< sent by a life that died before it could write so
  torn,      ///< not whole
  unknown,   ///< whole, and never sent
  misrouted, ///< whole, and not for this topic or subscriber
};

/// Counted over all lives.
struct tally {
  std::uint64_t sent = 0, acked = 0, delivered = 0;
  std::uint64_t resent = 0;                               ///< with DUP: not answered in time
  std::uint64_t duplicated_dup = 0, duplicated_plain = 0; ///< DUP flag set, not set
  std::uint64_t reordered = 0; ///< first deliveries behind a later one of the same publisher
  std::uint64_t torn = 0, unknown = 0, misrouted = 0;
  std::uint64_t unlisted = 0, late = 0; ///< late: not owed, and too old to know whether again
  std::uint64_t congestion = 0;         ///< refusals, tried again

  [[nodiscard]] std::uint64_t duplicated() const noexcept {
    return duplicated_dup + duplicated_plain;
  }
  [[nodiscard]] std::uint64_t corrupted() const noexcept { return torn + unknown + misrouted; }
};

/// Calls fn(name, value) for each.
template <class Tally, class F> void for_each_count(Tally& t, F&& fn) {
  fn("sent", t.sent);
  fn("acked", t.acked);
  fn("delivered", t.delivered);
  fn("resent", t.resent);
  fn("duplicated_dup", t.duplicated_dup);
  fn("duplicated_plain", t.duplicated_plain);
  fn("reordered", t.reordered);
  fn("torn", t.torn);
  fn("unknown", t.unknown);
  fn("misrouted", t.misrouted);
  fn("unlisted", t.unlisted);
  fn("late", t.late);
  fn("congestion", t.congestion);
}

struct missing_message {
  std::uint32_t publisher = 0, subscriber = 0;
  std::uint64_t sequence = 0;
};

struct verdict {
  std::uint64_t lost = 0;        ///< owed, and not delivered
  std::uint64_t in_doubt = 0;    ///< the same, perhaps taken by a life that could not say so
  std::uint64_t partial = 0;     ///< unacknowledged, delivered to some of its subscribers only
  std::uint64_t undelivered = 0; ///< QoS 0 and -1: sent and not delivered; allowed
  std::vector<missing_message> examples; ///< the first few lost ones
};

class ledger {
 public:
  /// `window`: messages a publisher may have undelivered. Refuses what does not fit memory_max.
  [[nodiscard]] static result<ledger> create(const shape& of, std::uint64_t window);
  /// Reads what to_json() wrote, for the next life; `window` is in addition to what is open.
  /// Errors name `path`.
  [[nodiscard]] static result<ledger> from_json(const std::string& text, const std::string& path,
                                                std::uint64_t window);
  /// Only the shape of it.
  [[nodiscard]] static result<shape> shape_from_json(const std::string& text,
                                                     const std::string& path);
  /// `complete`: the process ends with this, and nothing is received any more.
  [[nodiscard]] std::string to_json(bool complete) const;

  [[nodiscard]] const gen::shape& of() const noexcept { return shape_; }
  [[nodiscard]] std::uint16_t life() const noexcept { return life_; }
  [[nodiscard]] std::uint32_t topic_of(std::uint32_t publisher) const noexcept {
    return publisher % shape_.topics;
  }
  /// Octets of a message, from the seed.
  [[nodiscard]] std::uint32_t payload_size(std::uint32_t publisher,
                                           std::uint64_t sequence) const noexcept;

  // --- publishers
  [[nodiscard]] bool outstanding(std::uint32_t publisher) const noexcept {
    return shape_.qos == 1 && publishers_[publisher].sent != publishers_[publisher].acked;
  }
  [[nodiscard]] bool window_full(std::uint32_t publisher) const noexcept;
  /// A new message; its stamp.
  stamp begin_send(std::uint32_t publisher, std::uint64_t now_ns) noexcept;
  /// The outstanding message's stamp.
  [[nodiscard]] stamp last_stamp(std::uint32_t publisher) const noexcept;
  /// The outstanding message is acknowledged.
  void acknowledge(std::uint32_t publisher) noexcept;

  // --- subscribers
  [[nodiscard]] bool subscribed(std::uint32_t subscriber) const noexcept {
    return subscribed_[subscriber];
  }
  /// From here on messages are owed to it.
  void subscribe(std::uint32_t subscriber) noexcept;
  /// Its subscription ended: nothing is owed to it.
  void unsubscribe(std::uint32_t subscriber) noexcept;
  /// A message came on `topic`. `s` is set unless it is torn.
  delivery_kind deliver(std::uint32_t subscriber, std::uint32_t topic,
                        std::span<const std::byte> payload, bool dup, stamp& s) noexcept;

  [[nodiscard]] std::uint64_t owed() const noexcept { return owed_; }
  /// Messages sent and neither acknowledged nor delivered to all subscribers or to none.
  [[nodiscard]] std::uint64_t partial() const noexcept;
  [[nodiscard]] std::uint64_t unacknowledged() const noexcept;
  [[nodiscard]] verdict judge() const;

  tally count;

  static constexpr std::uint64_t memory_max = std::uint64_t{4} << 30; ///< bytes

 private:
  struct publisher_state {
    std::uint64_t sent = 0, acked = 0;
    std::uint64_t base = 0; ///< up to here all is settled
    std::uint64_t sent_ns = 0;
    std::uint64_t in_doubt_to = 0; ///< up to here what is missing may have been delivered
    std::uint64_t first_pair = 0;
    std::uint32_t pairs = 0;
    std::vector<std::uint64_t> starts; ///< by life: its first sequence
  };
  struct pair_state {
    std::uint64_t from = never; ///< the first sequence owed
    std::uint64_t high = 0;     ///< the highest delivered
  };
  static constexpr std::uint64_t never = ~std::uint64_t{0};

  explicit ledger(const shape& of) : shape_(of) {}
  [[nodiscard]] result<void> allocate(std::uint64_t window);
  [[nodiscard]] std::uint64_t& word(std::uint64_t pair, std::uint64_t sequence) noexcept {
    return bits_[pair * words_ + (sequence >> 6 & (words_ - 1))];
  }
  [[nodiscard]] bool has(std::uint64_t pair, std::uint64_t sequence) const noexcept {
    return (bits_[pair * words_ + (sequence >> 6 & (words_ - 1))] >> (sequence & 63) & 1) != 0;
  }
  [[nodiscard]] std::uint32_t& remaining(std::uint32_t p, std::uint64_t sequence) noexcept {
    return remaining_[p * words_ * 64 + (sequence & (words_ * 64 - 1))];
  }
  [[nodiscard]] std::uint32_t subscriber_of(std::uint32_t publisher,
                                            std::uint32_t k) const noexcept {
    return shape_.wildcard ? k : topic_of(publisher) + k * shape_.topics;
  }
  [[nodiscard]] std::uint64_t pair_of(std::uint32_t publisher,
                                      std::uint32_t subscriber) const noexcept {
    return publishers_[publisher].first_pair +
           (shape_.wildcard ? subscriber : subscriber / shape_.topics);
  }
  [[nodiscard]] std::uint16_t life_of(const publisher_state& p,
                                      std::uint64_t sequence) const noexcept;
  template <class F> void for_each_publisher_of(std::uint32_t subscriber, F&& fn);
  /// Recomputes what is owed of an acknowledged message.
  void owe(std::uint32_t publisher, std::uint64_t sequence) noexcept;
  void settle(std::uint32_t publisher) noexcept;
  void move_base(publisher_state& p, std::uint64_t to) noexcept;
  /// Publishers whose unacknowledged message went to some subscribers only.
  [[nodiscard]] bool partial(std::uint32_t publisher) const noexcept;

  gen::shape shape_;
  std::uint32_t run_ = 0;
  std::uint16_t life_ = 0;
  std::vector<bool> complete_; ///< by earlier life: whether it wrote its ledger at its end
  std::uint64_t words_ = 0;    ///< of 64 messages, a pair; a power of two
  std::uint64_t owed_ = 0;
  std::uint64_t passed_undelivered_ = 0; ///< QoS 0 and -1: below the windows
  std::vector<publisher_state> publishers_;
  std::vector<pair_state> pairs_;
  std::vector<std::uint64_t> bits_;
  std::vector<std::uint32_t> remaining_; ///< subscribers an acknowledged message is owed to
  std::vector<bool> subscribed_;
};

} // namespace chainring::gen
