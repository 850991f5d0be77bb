// SPDX-License-Identifier: BSD-3-Clause
// The broker's durable state.
//
// Crash windows:
//   [S1 < S2] a session's words before its commit word, in program order in one line.
//      Crash between: the record is free. CONNACK had not left.
//   [S2 < S3] the new incarnation drained before the queue restarts and subscription records are
//      erased. Crash between: both are of an incarnation that is not the session's: void at open.
//   [S4 < S5] everything read is drained before recovery stores anything because of it.
//      Crash between: nothing has changed.
//   [S5 < S6] what recovery voids is drained before a block or descriptor is given out.
//      Crash between: recovery finds the same again.
//
// Edges: [S2] release of a session's commit word -> [S7] acquire in load().
#include "broker/store.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <ctime>

#include "base/crc32c.h"
#include "base/hook.h"
#include "base/idle.h"
#include "topic/topic_table.h"
#include "ring/ring_media.h"
#include "mqttsn/codec.h"
#include "topic/topic.h"

namespace chainring {

namespace {

constexpr const char* sessions_area = "broker.sessions";
constexpr const char* queues_area = "broker.queues";
constexpr const char* subscriptions_area = "broker.subscriptions";
constexpr const char* messages_area = "broker.messages";
/// Of all areas. 2: session records and subscriptions with a checksum, 11 check bits in slots.
constexpr std::uint32_t area_version = 2;

/// Subscriptions the index has room for to begin with; it grows while it is used.
constexpr std::uint64_t subscriptions_first = 4096;

std::array<std::byte, subscription_value_size> subscription_value(std::span<const std::byte> key,
                                                                  std::uint8_t bits) noexcept {
  std::array<std::byte, subscription_value_size> value{std::byte{bits}};
  constexpr std::size_t covered = subscription_value_size - sizeof(std::uint32_t);
  const std::uint32_t crc = crc32c(crc32c(0, key.data(), key.size()), value.data(), covered);
  std::memcpy(value.data() + covered, &crc, sizeof crc);
  return value;
}

std::uint64_t load(const std::uint64_t& word) noexcept {
  // [S7] acquire: pairs with the release of the commit word [S2]; the line's other words are there.
  return std::atomic_ref(const_cast<std::uint64_t&>(word)).load(std::memory_order_acquire);
}

error too_many_blocks(std::uint32_t block_size) {
  return error{errc::no_space, "a region of more than " + std::to_string(block_store::blocks_max) +
                                   " blocks of " + std::to_string(block_size) +
                                   " bytes: create one with larger blocks"};
}

} // namespace

std::vector<area_spec> store::areas(const store_layout& layout, std::uint64_t region_size,
                                    std::uint32_t block_size) {
  const std::uint64_t messages = layout.messages_max != 0
                                     ? layout.messages_max
                                     : std::max<std::uint64_t>(region_size / (2 * block_size), 64);
  return {
      {sessions_area, std::uint64_t{layout.sessions_max} * sizeof(session_record), area_version},
      {queues_area, queue_table::bytes_for(layout.sessions_max), area_version},
      {subscriptions_area, std::uint64_t{layout.subscriptions_max} * cacheline_size, area_version},
      {messages_area, messages * sizeof(message_descriptor), area_version}};
}

store::~store() = default;

result<void> store::attach(const broker_config& config) {
  const region_geometry& g = region_.geometry();
  std::array<region_root, 4> roots;
  const char* const names[] = {sessions_area, queues_area, subscriptions_area, messages_area};
  for (std::size_t i = 0; i < roots.size(); ++i) {
    auto root = region_.root(names[i]);
    if (!root)
      return error{root.error().code, root.error().message +
                                          ": it was not made for a broker; create another with "
                                          "dpdk-chainring"};
    if (root->version != area_version)
      return error{errc::version,
                   std::string("root '") + names[i] + "' has version " +
                       std::to_string(root->version) + ", this build knows " +
                       std::to_string(area_version) +
                       ": drain it with the version that made it, and create another"};
    roots[i] = *root;
  }
  sessions_ = reinterpret_cast<session_record*>(region_.at(roots[0].offset));
  sessions_max_ = static_cast<std::uint32_t>(roots[0].size / sizeof(session_record));
  queue_records_ = reinterpret_cast<const queue_record*>(region_.at(roots[1].offset));
  subscriptions_max_ = roots[2].size / cacheline_size;
  if (roots[1].size < queue_table::bytes_for(sessions_max_))
    return error{errc::corrupt, "root 'broker.queues' has fewer records than there are sessions"};

  // Media reserve addresses for four times the size, unless told otherwise: as far as the region
  // can grow while it is open.
  const std::uint64_t most =
      std::min<std::uint64_t>(4 * (g.size / g.block_size), block_store::blocks_max);
  if (g.block_count > block_store::blocks_max) return too_many_blocks(g.block_size);
  auto blocks = block_store::create(media_, g.block_offset, g.block_size, g.block_count,
                                    {.block_count_max = static_cast<std::uint32_t>(most)});
  if (!blocks) return blocks.error();
  blocks_ = std::move(blocks).value();
  auto messages = message_table::create(
      media_, roots[3].offset,
      static_cast<std::uint32_t>(roots[3].size / sizeof(message_descriptor)), *blocks_);
  if (!messages) return messages.error();
  messages_ = std::move(messages).value();
  queue_table_options qo;
  qo.capacity_max = config.queue_slots;
  qo.capacity = config.queue_slots_first == 0
                    ? config.queue_slots
                    : std::min(config.queue_slots_first, config.queue_slots);
  qo.overflow = config.overflow == overflow_policy::reject        ? queue_overflow::reject
                : config.overflow == overflow_policy::drop_newest ? queue_overflow::drop_newest
                                                                  : queue_overflow::drop_oldest;
  // Rings in stock are at most a sixteenth of the region, the rest is for messages; and no more
  // than there are queues.
  const std::uint64_t stock = std::uint64_t{g.block_count} * g.block_size / 16 /
                              (std::bit_ceil(qo.capacity + 1ull) * sizeof(ring_slot));
  qo.stock = static_cast<std::uint32_t>(
      std::clamp<std::uint64_t>(stock, 1, std::min(qo.stock, sessions_max_)));
  auto queues =
      queue_table::create(media_, roots[1].offset, sessions_max_, *blocks_, messages_.get(), qo);
  if (!queues) return queues.error();
  queues_ = std::move(queues).value();
  auto map = durable_map::create(media_, roots[2].offset, subscriptions_max_, *blocks_,
                                 std::min(subscriptions_max_, subscriptions_first));
  if (!map) return map.error();
  subscriptions_ = std::move(map).value();
  return {};
}

const char* store::examine(std::uint32_t n) const noexcept {
  const session_record& r = sessions_[n];
  const std::uint64_t word = load(r.state);
  if (!session_word0::well_formed(word)) return "its commit word cannot be";
  if (session_word0::unpack(word).state == session_state::free) return nullptr;
  const session_word1 w = session_word1::unpack(r.attributes);
  char id[24];
  std::memcpy(id, r.client_id, sizeof id);
  if (w.pack() != r.attributes || w.id_length == 0 || w.id_length > mqttsn::client_id_size_max)
    return "its attributes cannot be";
  for (std::size_t i = 0; i < sizeof id; ++i)
    if ((id[i] != 0) != (i < w.id_length)) return "its client id cannot be";
  if (r.check != session_check(n, r)) return "its check fails";
  return nullptr;
}

result<std::unique_ptr<store>> store::open(region& on, const broker_config& config,
                                           const broker::progress& told, open_summary& summary) {
  std::unique_ptr<store> s(new store(on));
  if (auto attached = s->attach(config); !attached) return attached.error();
  if (auto recovered = s->recover(told, summary); !recovered) return recovered.error();
  return s;
}

// Sessions that end with the process, and records that cannot be.
void store::void_sessions(recovery_context& c, open_summary& summary) {
  for (std::uint32_t n = 0; n < sessions_max_; ++n, c.advance()) {
    session_record& r = sessions_[n];
    const char* wrong = examine(n);
    const session_word0 w = session_word0::unpack(r.state);
    // A free number's queue may have a ring, left by a publisher that had matched the last session,
    // and nothing in it; or the record is damaged. Either way it is not the next session's.
    const queue_commit queue = queue_commit::unpack(load(queue_records_[n].commit));
    const bool unowned = wrong == nullptr && w.state == session_state::free && queue.count != 0 &&
                         queue.incarnation == w.incarnation;
    if (wrong == nullptr && unowned && r.check == 0) wrong = "it has a queue and was never used";
    if (wrong != nullptr)
      c.report({"session " + std::to_string(n),
                std::string(wrong) + (c.checking() ? "" : "; it is deleted")});
    if (c.checking()) continue;
    if (wrong == nullptr && !unowned &&
        (w.state == session_state::free || (w.flags & session_flag_clean) == 0))
      continue;
    std::uint32_t next = w.incarnation + 1;
    if (next == queue.incarnation) ++next; // only where the incarnation itself is damaged
    media_.store_release(&r.state, session_word0{session_state::free, 0, next}.pack()); // [S5]
    c.flush_repair(&r.state, sizeof r.state);                                           // [S5]
    ++summary.voided;
  }
}

// The subscriptions of sessions as they are now.
bool store::wanted(std::span<const std::byte> key) const noexcept {
  if (key.size() <= subscription_key_prefix) return false;
  std::uint32_t words[2];
  std::memcpy(words, key.data(), sizeof words);
  if (words[0] >= sessions_max_) return false;
  const session_word0 w = session_state_of(words[0]);
  return w.state == session_state::used && w.incarnation == words[1];
}

// The driver drains after each phase: [S4 < S5] what was visible when the last process died need
// not have been durable; [S5 < S6] nothing is given out while what is void could come back.
recovery store::parts(open_summary& summary) {
  const auto notes = [](recovery_context& c, const char* object,
                        const std::vector<std::string>& of) {
    for (const std::string& note : of)
      c.report({object, note});
  };
  const auto fatal = [](recovery_context& c, const char* object, const error& e) {
    c.report({object, e.message, severity::fatal});
  };
  recovery all;
  all.add({.name = "sessions",
           .items = sessions_max_,
           .persist_as_read =
               [this](recovery_context&) {
                 media_.flush_read(sessions_,
                                   std::uint64_t{sessions_max_} * sizeof(session_record)); // [S4]
               },
           .repair = [this, &summary](recovery_context& c) { void_sessions(c, summary); }});
  all.add({.name = "messages",
           .persist_as_read = [this](recovery_context&) { messages_->persist_as_read(); },
           .repair =
               [this](recovery_context& c) {
                 if (!c.checking()) return; // an open judges each message when it is referred to
                 const message_check found = messages_->check();
                 if (found.malformed != 0)
                   c.report({"message " + std::to_string(found.first_malformed),
                             std::string(found.first_reason) + " (and " +
                                 std::to_string(found.malformed - 1) + " more)"});
               }});
  all.add({.name = "queues",
           .persist_as_read = [this](recovery_context&) { queues_->persist_as_read(); },
           .repair =
               [this, notes, fatal, &summary](recovery_context& c) {
                 if (c.checking()) return notes(c, "queues", queues_->check().notes);
                 auto found = queues_->recover([this](std::uint32_t n) {
                   return session_word0::unpack(sessions_[n].state).incarnation;
                 });
                 if (!found) return fatal(c, "queues", found.error());
                 summary.queues = found->queues;
                 summary.voided += found->voided;
                 notes(c, "queues", found->notes);
               }});
  all.add({.name = "subscriptions",
           .persist_as_read = [this](recovery_context&) { subscriptions_->persist_as_read(); },
           .repair =
               [this, notes, &summary](recovery_context& c) {
                 if (c.checking()) return notes(c, "subscriptions", subscriptions_->check().notes);
                 const auto found = subscriptions_->recover(
                     [this](std::span<const std::byte> key) { return wanted(key); });
                 summary.subscriptions = found.entries;
                 notes(c, "subscriptions", found.notes);
               }});
  all.add({.name = "free memory", .rebuild = [this, fatal](recovery_context& c) {
             messages_->finish_recovery();
             blocks_->finish_recovery();
             tolerate_loss(); // what recovery follows is required by now
             if (auto served = queues_->finish_recovery(); !served)
               fatal(c, "queues", served.error());
           }});
  return all;
}

result<void> store::recover(const broker::progress& told, open_summary& summary) {
  blocks_->begin_recovery();
  messages_->begin_recovery();
  recovery_listener listener;
  if (told)
    listener = [&](const recovery_progress& p) {
      told(std::string(to_string(p.phase)) + " " + p.part, p.done, p.total);
    };
  auto report = parts(summary).run(region_, listener);
  if (!report) return report.error();
  for (const problem& p : report->problems)
    summary.notes.push_back(p.text());
  summary.messages = messages_->statistics().live;
  for (std::uint32_t n = 0; n < sessions_max_; ++n)
    summary.sessions += session_state_of(n).state == session_state::used;
  summary.durability = media_.durability();
  return {};
}

session_word0 store::session_state_of(std::uint32_t n) const noexcept {
  return session_word0::unpack(load(sessions_[n].state));
}

std::string_view store::client_id(std::uint32_t n) const noexcept {
  const session_record& r = sessions_[n];
  return {reinterpret_cast<const char*>(r.client_id),
          session_word1::unpack(r.attributes).id_length};
}

// Another thread may be making the record another session's: taken word by word, and again where
// the record moved on meanwhile.
std::string store::client_id_seen(std::uint32_t n) const {
  const session_record& r = sessions_[n];
  for (;;) {
    const std::uint64_t before = load(r.state);                              // [S7]
    const auto length = session_word1::unpack(load(r.attributes)).id_length; // [S7]
    std::uint64_t id[3];
    for (int i = 0; i < 3; ++i)
      id[i] = load(r.client_id[i]);        // [S7] acquire: the next load of state comes after
    if (load(r.state) != before) continue; // [S7]
    return {reinterpret_cast<const char*>(id), std::min<std::size_t>(length, sizeof id)};
  }
}

std::uint16_t store::keep_alive_s(std::uint32_t n) const noexcept {
  return session_word1::unpack(sessions_[n].attributes).keep_alive_s;
}

void store::commit_session(std::uint32_t n, session_word0 word) noexcept {
  session_record& r = sessions_[n];
  media_.store_release(&r.state, word.pack());                            // [S2] pairs with [S7]
  if (!seeded_bug("broker.no_session_flush")) media_.flush(&r, sizeof r); // [S2]
  media_.drain();                                                         // [S2 < S3]
}

void store::create_session(std::uint32_t n, std::string_view client_id, std::uint8_t flags,
                           std::uint16_t keep_alive) noexcept {
  session_record& r = sessions_[n];
  CHAINRING_ASSERT(session_state_of(n).state == session_state::free);
  CHAINRING_ASSERT(!client_id.empty() && client_id.size() <= mqttsn::client_id_size_max);
  std::uint64_t id[3] = {};
  std::memcpy(id, client_id.data(), client_id.size());
  media_.store(
      &r.attributes,
      session_word1{static_cast<std::uint8_t>(client_id.size()), keep_alive}.pack()); // [S1]
  for (int i = 0; i < 3; ++i)
    media_.store(&r.client_id[i], id[i]);                                  // [S1]
  media_.store(&r.created_ns, now_ns());                                   // [S1]
  media_.store(&r.check, session_check(n, r));                             // [S1]
  commit_session(n, {session_state::used, flags, session_incarnation(n)}); // [S1 < S2]
}

void store::end_incarnation(std::uint32_t n, bool keep, std::uint8_t flags,
                            filter_index& filters) noexcept {
  const std::uint32_t old = session_incarnation(n);
  // The filters leave the index first; their names are kept, to erase the records at the end.
  thread_local std::string names;
  names.clear();
  filters.remove_all(n, [](std::string_view name) {
    names.push_back(static_cast<char>(name.size()));
    names.append(name);
  });
  commit_session(n,
                 {keep ? session_state::used : session_state::free, flags, old + 1}); // [S2 < S3]
  hook_point("broker.session.ended");
  idle_policy policy;
  restart_status restarted = queues_->restart_start(n, old);
  for (; restarted == restart_status::busy; restarted = queues_->restart_start(n, old))
    policy.idle();
  if (restarted == restart_status::stored) {
    queues_->restart_flush(n); // [S3]
    media_.drain();            // [S3, the queues' rule] before restart_finish()
    queues_->restart_finish(n);
  }
  for (std::size_t at = 0; at < names.size();) {
    const auto size = static_cast<unsigned char>(names[at]);
    key_bytes key;
    subscriptions_->erase(key_of(n, old, {names.data() + at + 1, size}, key)); // [S3]
    at += 1u + size;
  }
}

std::span<const std::byte> store::key_of(std::uint32_t session, std::uint32_t incarnation,
                                         std::string_view filter, key_bytes& key) noexcept {
  const std::uint32_t words[2] = {session, incarnation};
  std::memcpy(key.data(), words, sizeof words);
  std::memcpy(key.data() + subscription_key_prefix, filter.data(), filter.size());
  return std::span(key.data(), subscription_key_prefix + filter.size());
}

bool store::add_subscription(std::uint32_t session, std::string_view filter,
                             std::uint8_t bits) noexcept {
  key_bytes key;
  const std::span<const std::byte> whole_key =
      key_of(session, session_incarnation(session), filter, key);
  return subscriptions_->upsert(whole_key, subscription_value(whole_key, bits)) == map_status::done;
}

void store::remove_subscription(std::uint32_t session, std::string_view filter) noexcept {
  key_bytes key;
  subscriptions_->erase(key_of(session, session_incarnation(session), filter, key));
}

void store::for_each_subscription(
    const std::function<void(std::uint32_t, std::string_view, std::uint8_t)>& fn,
    std::vector<std::string>& notes) {
  subscriptions_->for_each([&](std::span<const std::byte> key, std::span<const std::byte> value) {
    if (key.size() <= subscription_key_prefix || value.empty()) return;
    std::uint32_t session;
    std::memcpy(&session, key.data(), sizeof session);
    const auto whole = subscription_value(key, static_cast<std::uint8_t>(value[0]));
    if (!std::ranges::equal(value, whole)) {
      notes.push_back("subscription of session " + std::to_string(session) +
                      ": its check fails; it is not served");
      return;
    }
    const std::string_view filter(reinterpret_cast<const char*>(key.data()) +
                                      subscription_key_prefix,
                                  key.size() - subscription_key_prefix);
    if (!valid_topic_filter(filter) || filter.size() > topic_length_max) {
      notes.push_back("subscription of session " + std::to_string(session) +
                      ": its filter cannot be; it is not served");
      return;
    }
    fn(session, filter, static_cast<std::uint8_t>(value[0]));
  });
}

std::uint64_t store::now_ns() noexcept {
  timespec t{};
  clock_gettime(CLOCK_REALTIME, &t);
  return static_cast<std::uint64_t>(t.tv_sec) * 1'000'000'000u +
         static_cast<std::uint64_t>(t.tv_nsec);
}

result<std::vector<std::string>> store::check(region& on) {
  store s(on);
  if (auto attached = s.attach(broker_config{}); !attached) return attached.error();
  open_summary unused;
  std::vector<std::string> wrong;
  for (const problem& p : s.parts(unused).check(on).problems)
    wrong.push_back(p.text());
  return wrong;
}

result<void> store::grow(std::uint64_t size) {
  // Before the region is larger for good.
  const region_geometry& g = region_.geometry();
  if (size > g.block_offset && (size - g.block_offset) / g.block_size > block_store::blocks_max)
    return too_many_blocks(g.block_size);
  if (auto grown = region_.grow(size); !grown) return grown;
  tolerate_loss();
  return blocks_->extend(region_.geometry().block_count);
}

// The block area holds the content of messages, which has a checksum and is delivered by it; and
// rings, long keys and extent lists, which are required one by one.
void store::tolerate_loss() noexcept {
  const region_geometry& g = region_.geometry();
  media_.tolerate_loss(region_.at(g.block_offset), g.block_count * g.block_size);
}

} // namespace chainring
