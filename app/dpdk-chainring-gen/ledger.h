// SPDX-License-Identifier: BSD-3-Clause
/// The ledger records what was sent, acknowledged and delivered, and gives the verdict.
///
/// A message is named {publisher, sequence}; sequences start at 1. Publisher p publishes to topic
/// p % topics. Subscriber s subscribes to topic s % topics, or to all topics by a wildcard. At QoS
/// 1 and 2 a publisher has one message without an answer at a time, so messages 1 to `acked` are
/// acknowledged, and a message that is sent but not acknowledged has the number acked + 1.
///
/// At QoS 2 a message that was sent in this life and is delivered to a subscriber twice breaks the
/// contract, unless sessions are clean. The exchanges of a life end with it, so its messages may
/// come again to the next one.
///
/// **Owed** to a subscriber is each acknowledged message that was sent after its subscription was
/// acknowledged and that is not delivered to it yet. A message that is still owed after draining is
/// lost.
///
/// **Memory** is fixed at create(): for each publisher and subscriber, one bit per message in a
/// window of sequences. All messages below the window are acknowledged and delivered. A publisher
/// whose window is full must wait; at QoS 0 and -1, where nothing is owed, the window moves on
/// instead.
///
/// **Lives.** Each resumption is a new life. When a process dies without writing its ledger,
/// messages that it sent after its last write may still arrive; they are `unlisted`, which is no
/// fault. Messages whose delivery it may not have written down are `in_doubt` instead of lost.
///
/// The class is not thread-safe. Only create(), from_json() and to_json() allocate memory.
#pragma once
#include <array>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "base/error.h"
#include "payload.h"

namespace chainring::gen {

/// The settings that are equal in all runs that work on one ledger.
struct shape {
  std::uint32_t publishers = 1;
  std::uint32_t subscribers = 1;
  std::uint32_t topics = 1;
  bool wildcard = false;
  bool clean = false; ///< sessions are clean: a broker that has ended one owes nothing older
  int qos = 1;        ///< 2, 1, 0 or -1
  std::uint32_t payload_min = 64; ///< in octets
  std::uint32_t payload_max = 64;
  std::uint64_t seed = 1;
  std::string prefix = "gen"; ///< how client ids and topic names begin

  friend bool operator==(const shape&, const shape&) = default;
};

/// What a delivered message turns out to be.
enum class delivery_kind : std::uint8_t {
  fresh,     ///< the first delivery of a message to this subscriber
  duplicate, ///< a repeated delivery
  unlisted,  ///< sent by a life that died before it wrote that down
  torn,      ///< the payload's checksum is wrong
  unknown,   ///< the payload is whole but was never sent
  misrouted, ///< the payload is whole but belongs to another topic or subscriber
};

/// Counters over all lives of the ledger.
struct tally {
  std::uint64_t sent = 0, acked = 0, delivered = 0;
  std::uint64_t resent = 0; ///< sent again with DUP, because no answer came in time
  std::uint64_t duplicated_dup = 0, duplicated_plain = 0; ///< with and without the DUP flag
  /// First deliveries that came after a later message of the same publisher.
  std::uint64_t reordered = 0;
  std::uint64_t twice = 0; ///< duplicates that break the contract
  std::uint64_t torn = 0, unknown = 0, misrouted = 0;
  std::uint64_t unlisted = 0;
  std::uint64_t late = 0;       ///< not owed, and too old to tell whether it is a duplicate
  std::uint64_t congestion = 0; ///< refusals with "congestion", after which the message is repeated

  [[nodiscard]] std::uint64_t duplicated() const noexcept {
    return duplicated_dup + duplicated_plain;
  }
  [[nodiscard]] std::uint64_t corrupted() const noexcept { return torn + unknown + misrouted; }
};

/// Calls fn(name, value) for each counter.
template <class Tally, class F> void for_each_count(Tally& t, F&& fn) {
  fn("sent", t.sent);
  fn("acked", t.acked);
  fn("delivered", t.delivered);
  fn("resent", t.resent);
  fn("duplicated_dup", t.duplicated_dup);
  fn("duplicated_plain", t.duplicated_plain);
  fn("reordered", t.reordered);
  fn("twice", t.twice);
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
  std::uint64_t lost = 0;     ///< messages that are owed and not delivered
  std::uint64_t in_doubt = 0; ///< the same, but a life that died may have received them
  std::uint64_t partial = 0;  ///< unacknowledged messages that only some of their subscribers got
  /// Messages of QoS 0 and -1 that were not delivered, which is allowed.
  std::uint64_t undelivered = 0;
  std::vector<missing_message> examples; ///< the first few lost messages
};

class ledger {
 public:
  /// Makes an empty ledger. `window` is the number of messages that a publisher may have
  /// undelivered. A ledger that would need more than memory_max is refused.
  [[nodiscard]] static result<ledger> create(const shape& of, std::uint64_t window);
  /// Reads what to_json() wrote and begins the next life. `window` is added to the messages that
  /// are still open. Errors name `path`.
  [[nodiscard]] static result<ledger> from_json(const std::string& text, const std::string& path,
                                                std::uint64_t window);
  /// Reads only the shape from what to_json() wrote.
  [[nodiscard]] static result<shape> shape_from_json(const std::string& text,
                                                     const std::string& path);
  /// Writes the ledger as JSON. `complete` says that the process ends now and receives nothing
  /// more.
  [[nodiscard]] std::string to_json(bool complete) const;

  [[nodiscard]] const gen::shape& of() const noexcept { return shape_; }
  /// Whether messages are acknowledged at their QoS.
  [[nodiscard]] bool acknowledges() const noexcept { return shape_.qos >= 1; }
  [[nodiscard]] std::uint16_t life() const noexcept { return life_; }
  [[nodiscard]] std::uint32_t topic_of(std::uint32_t publisher) const noexcept {
    return publisher % shape_.topics;
  }
  /// The size of a message in octets, which follows from the seed.
  [[nodiscard]] std::uint32_t payload_size(std::uint32_t publisher,
                                           std::uint64_t sequence) const noexcept;

  // --- publishers
  [[nodiscard]] bool outstanding(std::uint32_t publisher) const noexcept {
    return acknowledges() && publishers_[publisher].sent != publishers_[publisher].acked;
  }
  [[nodiscard]] bool window_full(std::uint32_t publisher) const noexcept;
  /// Begins a new message of the publisher and returns its stamp.
  stamp begin_send(std::uint32_t publisher, std::uint64_t now_ns) noexcept;
  /// Returns the stamp of the publisher's last message.
  [[nodiscard]] stamp last_stamp(std::uint32_t publisher) const noexcept;
  /// Records that the publisher's outstanding message is acknowledged.
  void acknowledge(std::uint32_t publisher) noexcept;

  // --- subscribers
  [[nodiscard]] bool subscribed(std::uint32_t subscriber) const noexcept {
    return subscribed_[subscriber];
  }
  /// Records the subscription: messages sent from now on are owed to this subscriber.
  void subscribe(std::uint32_t subscriber) noexcept;
  /// Records that the subscription ended: nothing is owed to this subscriber any more.
  void unsubscribe(std::uint32_t subscriber) noexcept;
  /// Records a message that arrived on `topic`. Sets `s` unless the message is torn.
  delivery_kind deliver(std::uint32_t subscriber, std::uint32_t topic,
                        std::span<const std::byte> payload, bool dup, stamp& s) noexcept;

  [[nodiscard]] std::uint64_t owed() const noexcept { return owed_; }
  /// The same as `partial` in the verdict.
  [[nodiscard]] std::uint64_t partial() const noexcept;
  [[nodiscard]] std::uint64_t unacknowledged() const noexcept;
  [[nodiscard]] verdict judge() const;

  tally count;

  static constexpr std::uint64_t memory_max = std::uint64_t{4} << 30; ///< bytes

 private:
  struct publisher_state {
    std::uint64_t sent = 0, acked = 0;
    std::uint64_t base = 0; ///< all messages up to this one are settled
    std::uint64_t sent_ns = 0;
    /// Messages up to this one may have been delivered to a life that died.
    std::uint64_t in_doubt_to = 0;
    std::uint64_t first_pair = 0;
    std::uint32_t pairs = 0;
    std::vector<std::uint64_t> starts; ///< for each life, its first sequence
  };
  struct pair_state {
    std::uint64_t from = never; ///< the first sequence that is owed to the subscriber
    std::uint64_t high = 0;     ///< the highest sequence that was delivered
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
  /// Recomputes to how many subscribers an acknowledged message is owed.
  void owe(std::uint32_t publisher, std::uint64_t sequence) noexcept;
  /// Moves the base past all messages that are acknowledged and delivered to everyone.
  void settle(std::uint32_t publisher) noexcept;
  void move_base(publisher_state& p, std::uint64_t to) noexcept;
  /// True when the publisher's unacknowledged message went to some of its subscribers only.
  [[nodiscard]] bool partial(std::uint32_t publisher) const noexcept;

  gen::shape shape_;
  std::uint32_t run_ = 0;
  std::uint16_t life_ = 0;
  std::vector<bool> complete_; ///< for each earlier life, whether it wrote its ledger at its end
  /// Words of 64 bits per pair of publisher and subscriber; a power of two.
  std::uint64_t words_ = 0;
  std::uint64_t window_ = 0; ///< messages that a publisher may have undelivered
  std::uint64_t owed_ = 0;
  /// At QoS 0 and -1: undelivered messages below the windows.
  std::uint64_t passed_undelivered_ = 0;
  std::vector<publisher_state> publishers_;
  std::vector<pair_state> pairs_;
  std::vector<std::uint64_t> bits_;
  /// For each acknowledged message, to how many subscribers it is owed.
  std::vector<std::uint32_t> remaining_;
  std::vector<bool> subscribed_;
};

} // namespace chainring::gen
