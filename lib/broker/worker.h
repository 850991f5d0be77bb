// SPDX-License-Identifier: BSD-3-Clause
/// One worker of the broker, which runs on one lcore and which front ends call.
///
/// Calls stage their work. end_burst() makes everything staged durable at once and reports the
/// outcomes. A burst costs two drains whatever it contains, and two more when sessions ended or
/// started clean.
/// ```
/// worker.publish(session, topic, content, {.qos = 1}, token);   // any number of calls
/// const mark_t mark = worker.end_burst(); // calls front_end::settled() and front_end::deliver()
/// transport.release(mark);                // the answers leave once the mark is durable
/// ```
/// Thread-safety: each worker belongs to one thread, which makes all calls. A session belongs to
/// the worker that broker::home_of(identity) names, and is opened and served only there.
/// Durability: what was settled as `accepted` is durable, in the region's class, once the mark that
/// end_burst() returned is durable. No answer may leave before.
#pragma once
#include <cstdint>
#include <memory>
#include <span>
#include <string_view>

#include "../base/client_address.h"
#include "../media/media.h"
#include "front_end.h"

namespace chainring {

class broker;
class topic_names;

/// A message that is sent for a client when its connection is lost. It is copied by the call that
/// is given it.
struct will_message {
  std::string_view topic; ///< a valid topic name
  std::span<const std::byte> content;
  std::span<const std::byte> properties{}; ///< as of publish_with_properties()
  std::uint8_t qos = 0;
  bool retain = false;
  std::uint32_t delay_s = 0; ///< the will is sent so long after the end of the connection
};

/// The parts of its will that a session changes; the other part stays as it is.
enum class will_part : std::uint8_t {
  all,   ///< the whole will
  topic, ///< topic, QoS, retain and delay; without a will so far, the content is empty
  /// the content, without properties; without a will so far, the outcome is `not_found`
  content,
};

/// The settings of a session that is opened.
struct session_options {
  /// Delete the subscriptions and the queue of an earlier session of this identity.
  bool clean_start = false;
  /// The session ends with its connection, and at the next open of the region.
  bool ends_with_connection = false;
  /// Seconds from the end of the connection to the end of the session; 0 means the broker's
  /// setting.
  std::uint32_t expiry_s = 0;
  /// How many QoS 1 and 2 messages may be under way at one time.
  std::uint16_t window = 1;
  std::uint16_t keep_alive_s = 0; ///< shown to operators; the front end acts on it
  /// The will of the session. settled(token) says that it is durable too.
  const will_message* will = nullptr;
  /// Without `will` and without a clean start: the session goes on with the will that it has, also
  /// when that will has been sent or the client ended its last connection itself.
  bool keep_will = false;
  /// The client opens its session again over the connection that it has. So no connection is lost
  /// when the session is taken over, and no will is sent.
  bool same_connection = false;
  client_address address{}; ///< the client's address, which is shown to operators
  /// Where the client is, as the front end counts clients together for
  /// broker_config::sessions_per_source_max; 0 means nowhere.
  std::uint64_t source = 0;
};

enum class open_status : std::uint8_t {
  opening,    ///< the session is opened; settled(token) follows
  congestion, ///< there is no free session; nothing was done and nothing follows
  /// The identity is empty, too long or another worker's, or the will is too long to be delivered.
  /// Nothing was done.
  refused,
};

struct opened_session {
  open_status status = open_status::refused;
  std::uint32_t session = no_session;
  bool present = false; ///< a session of this identity existed and goes on
};

struct publish_options {
  std::uint8_t qos = 0; ///< 0 to 2; QoS 2 needs the session of the sender
  /// The message becomes the retained message of its topic, which each new subscription is given.
  /// Without content it clears the topic instead.
  bool retain = false;
  std::uint16_t packet_id = 0; ///< at QoS 2 it identifies the message until it is released
  /// Seconds after which the message is not delivered any more; 0 means the broker's setting.
  std::uint32_t expiry_s = 0;
};

/// Which subscriptions are given the retained messages of their topics.
enum class retain_handling : std::uint8_t {
  always, ///< each SUBSCRIBE
  if_new, ///< a SUBSCRIBE for a filter that the session had not subscribed to
  never,
};

struct subscribe_options {
  std::uint8_t qos = 0;            ///< the highest QoS to deliver at, 0 to 2
  std::uint8_t front_end_bits = 0; ///< 0 to 3, handed back with every delivery
  std::uint32_t identifier = 0;    ///< kept for the front end, 0 to 268,435,455
  chainring::retain_handling retain_handling = chainring::retain_handling::always;
  /// The retain flag of a publish goes on to the subscriber; else only messages that were retained
  /// before the subscription have it.
  bool retain_as_published = false;
  bool no_local = false; ///< the session gets no message that it has published itself
};

class broker_worker {
 public:
  ~broker_worker();
  broker_worker(const broker_worker&) = delete;
  broker_worker& operator=(const broker_worker&) = delete;

  // --- sessions ---------------------------------------------------------------------------------

  /// Opens the session of this identity for `by`, which serves it from then on. Another connection
  /// of the same identity ends first, and closed() of its front end is called. An identity has 1 to
  /// 65,535 octets.
  [[nodiscard]] opened_session open_session(front_end& by, std::string_view identity,
                                            const session_options& options,
                                            std::uint64_t token) noexcept;
  enum class end_reason : std::uint8_t {
    client, ///< the client asked for it, and its will is not sent
    lost,   ///< the client was silent or did not answer, and its will is sent
  };
  /// Ends the connection because the front end asks for it; closed() is not called. settled(token)
  /// follows when it is durable that a client that asked for it sends no will.
  void close_session(std::uint32_t session, end_reason reason = end_reason::client,
                     std::uint64_t token = no_token) noexcept;
  /// Changes the expiry of an open session as session_options give it, for a client that ends its
  /// connection. It is durable with what close_session() does in the same burst.
  void set_expiry(std::uint32_t session, std::uint32_t expiry_s,
                  bool ends_with_connection) noexcept;
  /// Replaces the will of an open session, or a part of it; a null pointer deletes it.
  /// settled(token) follows when that is durable. Until then the former will counts.
  void set_will(std::uint32_t session, const will_message* will, std::uint64_t token,
                will_part part = will_part::all) noexcept;
  /// The client of an open session sleeps: nothing is delivered to it until resume(). When the
  /// process ends meanwhile, neither the will nor the expiry of the session is due before the
  /// sleep is over. settled(token) follows when that is durable.
  void sleep(std::uint32_t session, std::uint32_t duration_s, std::uint64_t token) noexcept;
  /// True when a subscription of the open session may have an identifier; without one, a front end
  /// need not ask broker::subscriptions_of().
  [[nodiscard]] bool has_identifiers(std::uint32_t session) const noexcept;
  /// True when nothing is left to deliver to the session, and nothing waits for an acknowledgement.
  [[nodiscard]] bool delivered_all(std::uint32_t session) const noexcept;
  /// The number of the session that is open on this worker under this identity, or no_session.
  [[nodiscard]] std::uint32_t find_session(std::string_view identity) const noexcept;
  /// The identity of a session whose home is this worker. The view is valid until the session ends.
  [[nodiscard]] std::string_view identity_of(std::uint32_t session) const noexcept;
  /// True when the session is open on this worker and has this identity.
  [[nodiscard]] bool serves(std::uint32_t session, std::string_view identity) const noexcept;
  /// Offers messages again that deliver() left, or that waited for another reason or because the
  /// client slept.
  void resume(std::uint32_t session) noexcept;

  // --- topics -----------------------------------------------------------------------------------

  /// The topic names of this worker. A topic number stays with its name while it is held.
  [[nodiscard]] topic_names& topics() noexcept;

  // --- publishing -------------------------------------------------------------------------------

  /// From now on publish() takes contents of at least `octets_min` octets, at QoS 1 and 2, from
  /// this source where it gives them away, and copies them otherwise. The source belongs to the
  /// thread of the worker, and outlives the last publish(). With a null pointer, as at first, every
  /// content is copied.
  void receive_from(content_source* source, std::size_t octets_min) noexcept;
  /// Stages a message. `from` is the sender's session, or no_session. A message at QoS 1 or 2 is
  /// copied, and settled(token) follows. A QoS 0 message is handed on at once, and nothing follows;
  /// one that is to be retained is handed on when it is durable.
  ///
  /// A QoS 2 message that is accepted opens the identifier {session, packet id}, which survives a
  /// crash. Until release_identifier() a publish with the same identifier is a repetition: it is
  /// settled as `accepted`, or as `repeated` while the first one has no outcome, and is delivered
  /// to nobody. A protocol's flag for duplicates means nothing here.
  void publish(front_end& by, std::uint32_t from, std::uint32_t topic,
               std::span<const std::byte> content, const publish_options& options,
               std::uint64_t token) noexcept;
  /// The same for a message with properties, which are kept and delivered with it
  /// (delivery_item::extras). The core does not interpret them, except that the first octet of
  /// properties is not 0. They count to the limit of the content's size.
  void publish_with_properties(front_end& by, std::uint32_t from, std::uint32_t topic,
                               std::span<const std::byte> content,
                               std::span<const std::byte> properties,
                               const publish_options& options, std::uint64_t token) noexcept;
  /// Closes an identifier, for PUBREL. settled(token) follows as `accepted` once the closing is
  /// durable, and with this burst when there is no such identifier. It follows as `repeated` when
  /// the publish has no outcome yet; then the identifier stays open.
  void release_identifier(std::uint32_t session, std::uint16_t packet_id,
                          std::uint64_t token) noexcept;
  /// Adds or replaces a subscription; settled(token) follows, when the session has been given the
  /// retained messages of the topics, or as many as there is room for. The session is given the
  /// others as it takes messages, until the broker ends: a restart keeps the subscription and the
  /// queue, and not what had no room in it yet.
  void subscribe(std::uint32_t session, std::string_view filter, const subscribe_options& options,
                 std::uint64_t token) noexcept;
  /// Ends a subscription; settled(token) follows.
  void unsubscribe(std::uint32_t session, std::string_view filter, std::uint64_t token) noexcept;

  // --- delivering -------------------------------------------------------------------------------

  enum class ack_reason : std::uint8_t {
    delivered, ///< the client has acknowledged the message
    refused,   ///< the client will never accept the message, which is dropped and counted
    denied,    ///< the client may not read the message, which is dropped and counted
    /// The client has had the message and refuses it. It is dropped and counted, also where another
    /// member of a group could take it (MQTT-4.8.2-6).
    rejected,
  };
  /// Removes the message from the queue, durably with this burst. An unknown ticket is ignored.
  /// Within deliver() ticket 0 means the item that is offered; a message at QoS 0 is then not
  /// delivered.
  void ack(std::uint32_t session, std::uint64_t ticket,
           ack_reason reason = ack_reason::delivered) noexcept;
  /// Does what ack() of a message that was delivered does, and then resume().
  void ack_and_resume(std::uint32_t session, std::uint64_t ticket) noexcept;
  /// Notes that the client has received a QoS 2 message, for PUBREC. When settled(token) follows as
  /// `accepted`, this is durable and the message is never offered again, except as `released`. The
  /// front end then sends PUBREL, and calls ack() when the client has answered it. It follows as
  /// `not_found` when the ticket is not under way.
  void received(std::uint32_t session, std::uint64_t ticket, std::uint64_t token) noexcept;
  /// Gives the message back. It is offered again as redelivered, at once or, when the session is
  /// paused, after resume().
  void give_back(std::uint32_t session, std::uint64_t ticket) noexcept;
  /// Skips a message that this connection can never carry. It stays in the queue, and is offered
  /// again to the session's next connection.
  void skip(std::uint32_t session, std::uint64_t ticket) noexcept;

  /// Reports to operators that a message of `size` octets was skipped; the connection carries
  /// `limit`.
  void report_too_long(std::uint32_t session, std::uint64_t size, std::uint64_t limit) noexcept;

  // --- the burst --------------------------------------------------------------------------------

  /// Makes everything staged durable, settles it and delivers. It also does what other workers,
  /// operators and the clock ask for. Returns the mark that must be durable before an answer may
  /// leave.
  [[nodiscard]] mark_t end_burst() noexcept;
  /// True when the last end_burst() had something to do.
  [[nodiscard]] bool worked() const noexcept;
  [[nodiscard]] unsigned number() const noexcept;

 private:
  friend class broker;
  struct state;
  explicit broker_worker(std::unique_ptr<state> s);
  std::unique_ptr<state> state_;
};

} // namespace chainring
