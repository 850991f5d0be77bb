// SPDX-License-Identifier: BSD-3-Clause
// The bursts of a durable queue: what a publisher and a consumer of ring.h do, in one call each.
//
// Ordering labels:
//   [entries-before-publish]  Contents and slots are drained before the descriptors that publish
//     them are stored.
//   [entries-in-pieces]  Contents and slots that one drain of the medium cannot cover are drained in
//     pieces before the descriptors are stored, as persist_range() does it.
//   [entries-before-ready]  Publications, or the slots of values, are drained before consumers see
//     the entries.
//   [entries-released]  The head and the marks of released entries are drained before their room
//     and blocks are used again, and before release() returns.
//   [queue-damage-shown]  The number of damaged entries is a statistic; it orders nothing.
#include "ring/durable_queue.h"

#include <algorithm>
#include <cstring>

#include "base/hook.h"
#include "base/idle.h"
#include "ring/client_table.h"

namespace chainring {

namespace {
constexpr std::uint32_t entries_max = (1u << 24) - 1;
constexpr std::uint64_t least_most = 1u << 20; ///< descriptors that any queue may have in time
constexpr const char* without_ids = "an operation id for a queue that was made without clients; "
                                    "set durable_queue_options::clients, or "
                                    "`clients` of durable<queue<T>>, when the queue is made";
constexpr const char* not_serving = "a queue that does not serve yet; run the recovery of its "
                                    "parts() first, or call start() where its "
                                    "records are zero";
} // namespace

const char* to_string(queue_status s) noexcept {
  switch (s) {
  case queue_status::done:
    return "done";
  case queue_status::full:
    return "full";
  case queue_status::too_long:
    return "too long";
  case queue_status::failed:
    return "failed";
  case queue_status::repeated:
    return "repeated";
  }
  return "unknown";
}

namespace {
error refuse(const char* what, std::uint64_t is, const char* expected) {
  return {errc::invalid_argument, std::string("durable queue: ") + what + " " + std::to_string(is) +
                                      ": expected " + expected};
}
} // namespace

result<void> durable_queue::acceptable(const durable_queue_options& options) {
  if (options.entries == 0 || options.entries > entries_max)
    return refuse("entries", options.entries, "1 to 16777215");
  if (options.streams == 0 || options.streams > streams_max)
    return refuse("streams", options.streams, "1 to 64");
  if (options.entry_bytes > entry_bytes_max)
    return refuse("entry_bytes", options.entry_bytes, "0 to 16777216");
  if (options.clients > clients_max) return refuse("clients", options.clients, "0 to 1048576");
  return {};
}

std::uint64_t durable_queue::descriptors_max(const durable_queue_options& options,
                                             std::uint64_t made_with) noexcept {
  const std::uint64_t wanted = made_with + 2 * (std::uint64_t{options.entries} + options.clients);
  return std::min<std::uint64_t>(std::max({64 * made_with, wanted, least_most}), 1u << 31);
}

result<std::unique_ptr<durable_queue>>
durable_queue::create(media& medium, std::uint64_t records,
                      std::span<const message_segment> descriptors, block_store& blocks,
                      const durable_queue_options& options) {
  if (auto fine = acceptable(options); !fine) return fine.error();
  if (in_slots(options) != descriptors.empty())
    return refuse("ranges of descriptors", descriptors.size(),
                  in_slots(options) ? "none, because entries lie in the slots" : "at least one");
  std::unique_ptr<durable_queue> q(new durable_queue(medium, options));
  if (!descriptors.empty()) {
    std::uint64_t there = 0;
    for (const message_segment& d : descriptors)
      there += d.count;
    auto messages = message_table::create(
        medium, descriptors, blocks,
        {.descriptors_max = static_cast<std::uint32_t>(descriptors_max(options, there))});
    if (!messages) return messages.error();
    q->messages_ = std::move(messages).value();
  }
  if (options.clients != 0) q->clients_ = std::make_unique<detail::client_table>(options.clients);
  queue_table_options o;
  // As large for few entries, so that an open which asks for more finds a ring that can be
  // followed.
  o.capacity = std::max(options.first_entries, 2u);
  o.capacity_max = std::max(options.entries, o.capacity);
  o.stock = options.streams;
  o.mode = options.mode;
  auto queues =
      queue_table::create(medium, records, options.streams, blocks, q->messages_.get(), o);
  if (!queues) return queues.error();
  q->queues_ = std::move(queues).value();
  return q;
}

std::vector<recovery_part> durable_queue::parts(const std::string& name) {
  std::vector<recovery_part> all;
  if (messages_ != nullptr) all.push_back(messages_->part());
  if (clients_ != nullptr) all.push_back(clients_part(name));
  all.push_back(queues_->part(name));
  all.push_back({.name = name + ", its mode", .rebuild = [this](recovery_context& c) {
                   for (std::uint32_t s = 0; s < options_.streams; ++s)
                     if (queues_->statistics(s).mode != options_.mode &&
                         !queue_consumer(*queues_).set_mode(s, options_.mode))
                       c.report({"stream " + std::to_string(s), "its mode cannot be changed"});
                   serves_ = true;
                   c.advance();
                 }});
  return all;
}

result<void> durable_queue::start() {
  auto done = queues_->start();
  serves_ = done.ok();
  return done;
}

result<void> durable_queue::add_descriptors(const message_segment& more) {
  return messages_->add_segment(more.offset, more.count);
}

// --- operations with ids ------------------------------------------------------------------------
//
// The message of such an entry has an open identifier, {session, incarnation, packet id}, which is
// the operation's {client, sequence number}. Word 0 of its descriptor commits both, so an id is on
// media if and only if its entry was published. The client keeps a reference to the message of its
// last operation, so that it stays when the entry is released. It drops that reference when the
// next one is durable. Its identifier is never closed: an open serves the operation of each client
// with the greatest number, and to it a message that lost its last reference is a free descriptor.

struct durable_queue::identified {
  operation_id id;
  detail::client_table::place* client; ///< claimed by this thread
};

namespace {

void name_operation(operation_id id, message_fields& fields) noexcept {
  fields.identifier_open = true;
  fields.publisher_session = id.client;
  fields.publisher_incarnation = static_cast<std::uint32_t>(id.sequence >> 16);
  fields.packet_id = static_cast<std::uint16_t>(id.sequence);
}
operation_id operation_of(const message_fields& fields) noexcept {
  return {fields.publisher_session,
          std::uint64_t{fields.publisher_incarnation} << 16 | fields.packet_id};
}

} // namespace

durable_queue::durable_queue(media& medium, const durable_queue_options& options) noexcept
    : medium_(medium), options_(options) {}
durable_queue::~durable_queue() = default;

// The entry is durable, and this thread's reference to it becomes the client's.
void durable_queue::take_effect(const identified& of, message_ref message) noexcept {
  bool had = false;
  const message_ref before = of.client->take_effect(of.id.sequence, message, had);
  if (had && !seeded_bug("queue.operation_dropped_early")) messages_->drop_reference(before.index);
}

std::uint32_t durable_queue::put_operations(std::span<const operation_id> ids,
                                            std::span<const byte_span> entries,
                                            queue_status& stopped) noexcept {
  std::array<identified, burst_max> mine;
  std::uint32_t n = 0;
  stopped = queue_status::full;
  for (const operation_id id : ids) {
    CHAINRING_EXPECTS(id.valid(), "the sequence number of an operation id is 1 to 2^48 - 1");
    auto* const client = clients_->find_or_add(id.client);
    if (client == nullptr) break;
    // A thread that waits for a client has claimed no other one.
    bool claimed = client->try_claim();
    for (idle_policy wait; !claimed && n == 0; claimed = client->try_claim())
      wait.idle();
    if (!claimed) break;
    if (client->last() >= id.sequence && !seeded_bug("queue.operation_not_asked")) {
      client->give_back();
      stopped = queue_status::repeated;
      break;
    }
    if (client->last() != 0 && seeded_bug("queue.operation_dropped_early"))
      messages_->drop_reference(client->message().index);
    mine[n++] = {id, client};
  }
  const std::uint32_t done = n == 0 ? 0 : put(entries.first(n), false, std::span(mine).first(n));
  for (std::uint32_t i = 0; i < n; ++i)
    mine[i].client->give_back();
  if (done < n) stopped = medium_.failed() ? queue_status::failed : queue_status::full;
  return done;
}

queue_status durable_queue::enqueue(operation_id id, byte_span entry) noexcept {
  CHAINRING_EXPECTS(clients_ != nullptr, without_ids);
  if (!accepts(entry)) return queue_status::too_long;
  queue_status stopped{};
  return put_operations({&id, 1}, {&entry, 1}, stopped) == 1 ? queue_status::done : stopped;
}

std::uint32_t durable_queue::enqueue_burst(std::span<const operation_id> ids,
                                           std::span<const byte_span> entries) noexcept {
  CHAINRING_EXPECTS(clients_ != nullptr, without_ids);
  CHAINRING_EXPECTS(ids.size() == entries.size(), "enqueue_burst() needs one id for each entry");
  const auto end = std::ranges::find_if_not(entries, [this](byte_span e) { return accepts(e); });
  const auto n = static_cast<std::uint32_t>(end - entries.begin());
  std::uint32_t done = 0;
  while (done < n) {
    const std::uint32_t some = std::min(n - done, burst_max);
    queue_status stopped{};
    const std::uint32_t now =
        put_operations(ids.subspan(done, some), entries.subspan(done, some), stopped);
    if (now == 0) break;
    done += now;
  }
  return done;
}

std::uint64_t durable_queue::last_operation(std::uint32_t client) const noexcept {
  CHAINRING_EXPECTS(clients_ != nullptr, without_ids);
  const auto* const place = clients_->find(client);
  return place == nullptr ? 0 : place->last();
}

// Finds the last operation of each client. Its part stands behind that of the messages.
recovery_part durable_queue::clients_part(const std::string& name) {
  return {.name = name + ", its clients", .repair = [this](recovery_context& c) {
            struct found {
              operation_id id;
              message_ref message;
            };
            std::vector<found> all;
            messages_->for_each_open_identifier([&](const message_view& m) {
              all.push_back({operation_of(m.fields), m.ref});
            });
            std::ranges::sort(all, [](const found& a, const found& b) {
              return a.id.client != b.id.client ? a.id.client < b.id.client
                                                : a.id.sequence > b.id.sequence;
            });
            const auto others = std::ranges::unique(all, {}, [](auto& f) { return f.id.client; });
            all.erase(others.begin(), others.end());
            if (all.size() > clients_->clients_max())
              clients_ =
                  std::make_unique<detail::client_table>(static_cast<std::uint32_t>(all.size()));
            for (const found& f : all) {
              if (seeded_bug("queue.operation_not_recovered")) break;
              if (messages_->recover_reference(f.message) != message_status::ok) {
                c.report({"client " + std::to_string(f.id.client),
                          "the message of its last operation is damaged, so that resolve() answers "
                          "no_effect for it"});
                continue;
              }
              bool had = false;
              if (auto* const client = clients_->find_or_add(f.id.client); client != nullptr)
                (void)client->take_effect(f.id.sequence, f.message, had);
            }
            c.advance();
          }};
}

// --- producers ----------------------------------------------------------------------------------

bool durable_queue::accepts(byte_span entry) const noexcept {
  // One drain has to cover an entry, with the partly filled lines of its extents.
  return (options_.entry_bytes == 0 || entry.size() == options_.entry_bytes) &&
         entry.size() <= entry_bytes_max && entry.size() < medium_.drain_bytes_max() / 4;
}

queue_status durable_queue::enqueue_bulk(std::span<const byte_span> entries) noexcept {
  CHAINRING_EXPECTS(!entries.empty() && entries.size() <= burst_max,
                    "enqueue_bulk() takes 1 to burst_max entries; call enqueue_burst() for more");
  if (!std::ranges::all_of(entries, [this](byte_span e) { return accepts(e); }))
    return queue_status::too_long;
  if (put(entries, true) != 0) return queue_status::done;
  return medium_.failed() ? queue_status::failed : queue_status::full;
}

std::uint32_t durable_queue::enqueue_burst(std::span<const byte_span> entries) noexcept {
  const auto end = std::ranges::find_if_not(entries, [this](byte_span e) { return accepts(e); });
  const auto n = static_cast<std::uint32_t>(end - entries.begin());
  std::uint32_t done = 0;
  while (done < n) {
    const std::uint32_t now = put(entries.subspan(done, std::min(n - done, burst_max)), false);
    if (now == 0) break;
    done += now;
  }
  return done;
}

std::uint32_t durable_queue::put(std::span<const byte_span> entries, bool all,
                                 std::span<const identified> ids) noexcept {
  CHAINRING_EXPECTS(serves_, not_serving);
  if (medium_.failed()) return 0;
  auto n = static_cast<std::uint32_t>(entries.size());
  for (std::uint32_t s = 0; s < options_.streams; ++s) {
    if (!has_ring(s)) return 0;
    n = room(s, n);
  }
  if (n == 0 || (all && n != entries.size())) return 0;
  const auto some = entries.first(n);
  return messages_ == nullptr ? put_values(some, all) : put_messages(some, all, ids);
}

/// Returns for how many of `n` entries there is room in the stream, now or when its ring has grown.
std::uint32_t durable_queue::room(std::uint32_t stream, std::uint32_t n) noexcept {
  const std::uint32_t used = depth(stream), most = capacity();
  return used >= most ? 0 : std::min({n, most - used, queues_->free_count(stream)});
}

bool durable_queue::has_ring(std::uint32_t stream) noexcept {
  for (idle_policy wait;;) {
    switch (queues_->link_now(stream)) {
    case link_status::ready:
      return true;
    case link_status::wait:
      wait.idle();
      break;
    default:
      return false;
    }
  }
}

std::uint32_t durable_queue::put_values(std::span<const byte_span> entries, bool all) noexcept {
  std::uint64_t words[burst_max] = {};
  for (std::size_t i = 0; i < entries.size(); ++i)
    std::memcpy(&words[i], entries[i].data(), entries[i].size());
  const std::span values(words, entries.size());
  placement p;
  std::uint32_t placed = 0;
  for (idle_policy wait; placed == 0;) {
    placed = all ? queues_->enqueue_bulk(0, values, p) : queues_->enqueue_burst(0, values, p);
    if (placed != 0) break;
    const link_status grown =
        queues_->grow_now(0, all ? static_cast<std::uint32_t>(values.size()) : 1);
    if (grown == link_status::wait)
      wait.idle();
    else if (grown != link_status::ready)
      return 0;
  }
  queues_->place_flush(p); // [entries-before-ready]
  hook_point("queue.flushed");
  // [entries-before-ready] Without it a consumer could take an entry that a crash takes back.
  // Crash between: each entry is there or not.
  medium_.drain(); // [entries-before-ready]
  if (medium_.failed()) {
    queues_->place_void(p);
    return 0;
  }
  queues_->place_finish(p);
  return placed;
}

/// Places entries in one stream, and makes its ring larger where that is needed.
bool durable_queue::place(std::uint32_t stream, std::span<const slot_ref> refs,
                          placement& out) noexcept {
  for (idle_policy wait;;) {
    switch (queues_->place_start(stream, refs, out)) {
    case place_status::placed:
      return true;
    case place_status::full: {
      const link_status grown = queues_->grow_now(stream, static_cast<std::uint32_t>(refs.size()));
      if (grown == link_status::ready) break;
      if (grown != link_status::wait) return false;
      wait.idle();
      break;
    }
    case place_status::closed: // another thread makes the ring larger
      wait.idle();
      break;
    default:
      return false;
    }
  }
}

std::uint32_t durable_queue::put_messages(std::span<const byte_span> entries, bool all,
                                          std::span<const identified> ids) noexcept {
  const std::uint64_t losses = medium_.losses();
  const std::uint32_t streams = options_.streams;
  std::array<message, burst_max> made;
  std::array<slot_ref, burst_max> refs;
  std::array<placement, streams_max> placed;
  std::uint32_t n = 0;
  for (const byte_span entry : entries) {
    message& m = made[n];
    message_fields fields{.payload_size = static_cast<std::uint32_t>(entry.size())};
    if (!ids.empty()) name_operation(ids[n].id, fields);
    if (!messages_->reserve(fields, m)) break;
    messages_->copy_in(m, entry.data(), entry.size());
    messages_->stage(m);
    messages_->add_references(m.ref.index, streams);
    refs[n++] = slot_ref(m.ref, 0);
  }
  // Takes the entries back. A slot that was placed keeps its reference until the head passes it.
  const auto give_up = [&](std::uint32_t in_streams) -> std::uint32_t {
    for (std::uint32_t s = 0; s < in_streams; ++s)
      queues_->place_void(placed[s]);
    for (std::uint32_t i = 0; i < n; ++i) {
      if (in_streams != streams) messages_->drop_reference(made[i].ref.index, streams - in_streams);
      messages_->discard(made[i]);
    }
    return 0;
  };
  if (n == 0 || (all && n != entries.size())) return give_up(0);
  for (std::uint32_t s = 0; s < streams; ++s)
    if (!place(s, std::span(refs).first(n), placed[s])) return give_up(s);
  const std::uint64_t bytes_max = medium_.drain_bytes_max() / 4;
  std::uint64_t undrained = 0;
  const auto count_undrained = [&](std::uint64_t bytes) {
    if (undrained != 0 && undrained + bytes > bytes_max) {
      // [entries-in-pieces] Crash between: the slots are void, and nothing names the contents.
      medium_.drain(); // [entries-in-pieces]
      undrained = 0;
    }
    undrained += bytes;
  };
  for (std::uint32_t i = 0; i < n; ++i) {
    count_undrained(message_table::flushed_bytes(made[i]));
    messages_->flush_staged(made[i]); // [entries-before-publish]
  }
  for (std::uint32_t s = 0; s < streams; ++s) {
    count_undrained(n * sizeof(ring_slot) + 2 * cacheline_size);
    queues_->place_flush(placed[s]); // [entries-before-publish]
  }
  hook_point("queue.staged");
  // [entries-before-publish] Without it a crash could leave a published entry without its bytes, or
  // without its slot in one of the streams. Crash between: the slots are void.
  medium_.drain(); // [entries-before-publish]
  if (medium_.failed()) return give_up(streams);
  for (std::uint32_t i = 0; i < n; ++i)
    messages_->publish(made[i]);
  for (std::uint32_t i = 0; i < n; ++i)
    messages_->flush_published(made[i]); // [entries-before-ready]
  hook_point("queue.published");
  // Crash between: each entry is in every stream or in none.
  medium_.drain(); // [entries-before-ready]
  const bool lost = medium_.losses() != losses &&
                    std::any_of(made.begin(), made.begin() + n,
                                [this](const message& m) { return messages_->lost(m); });
  if (lost || medium_.failed()) return give_up(streams);
  for (std::uint32_t s = 0; s < streams; ++s)
    queues_->place_finish(placed[s]);
  for (std::uint32_t i = 0; i < n; ++i)
    if (ids.empty() || seeded_bug("queue.operation_not_kept"))
      messages_->drop_reference(made[i].ref.index);
    else
      take_effect(ids[i], made[i].ref);
  return n;
}

// --- consumers ----------------------------------------------------------------------------------

std::uint32_t durable_queue::take(std::uint32_t stream, std::span<taken> out) noexcept {
  CHAINRING_EXPECTS(stream < options_.streams,
                    "the queue has fewer streams; durable_queue_options::streams says how many");
  CHAINRING_EXPECTS(serves_, not_serving);
  std::array<leased, burst_max> entries;
  std::uint32_t n = 0;
  while (n < out.size()) {
    const std::uint32_t now = queues_->lease(
        stream, std::span(entries).first(std::min<std::size_t>(burst_max, out.size() - n)));
    if (now == 0) break;
    for (std::uint32_t i = 0; i < now; ++i)
      out[n++] = {entries[i],
                  messages_ == nullptr
                      ? options_.entry_bytes
                      : static_cast<std::uint32_t>(messages_->size_of(entries[i].message().index))};
  }
  return n;
}

std::size_t durable_queue::copy(const taken& t, std::span<std::byte> to) const noexcept {
  const std::size_t n = std::min<std::size_t>(t.bytes, to.size());
  if (messages_ == nullptr) {
    std::memcpy(to.data(), &t.entry.ref.word, n);
    return n;
  }
  const message_table::reading mine(*messages_);
  message_view v;
  if (messages_->view(t.entry.message(), v) != message_status::ok || !messages_->verify(v)) {
    damaged_.fetch_add(1, std::memory_order_relaxed); // [queue-damage-shown]
    return 0;
  }
  return v.payload.copy_out(to.data(), n);
}

queue_status durable_queue::release(std::uint32_t stream, std::span<const taken> entries) noexcept {
  CHAINRING_EXPECTS(stream < options_.streams,
                    "the queue has fewer streams; durable_queue_options::streams says how many");
  const queue_consumer consumer(*queues_);
  bool marked = false;
  while (!entries.empty()) {
    std::array<leased, burst_max> some;
    const auto now = entries.first(std::min<std::size_t>(entries.size(), burst_max));
    for (std::size_t i = 0; i < now.size(); ++i)
      some[i] = now[i].entry;
    // Those that are the oldest of the queue in order, and then the others one by one.
    for (std::size_t i = consumer.ack_burst(stream, std::span(some).first(now.size()));
         i < now.size(); ++i)
      if (consumer.ack(stream, some[i]) == ack_status::marked) {
        consumer.flush_slot(stream, some[i].ticket()); // [entries-released]
        marked = true;
      }
    entries = entries.subspan(now.size());
  }
  for (idle_policy wait;;) {
    if (queues_->release_start(stream)) {
      queues_->release_flush(stream); // [entries-released]
      hook_point("queue.releasing");
      // [entries-released] Without it a crash could hand a released entry out again, or name
      // blocks that were used again. Crash between: the entries are there or not.
      medium_.drain(); // [entries-released]
      marked = false;
      queues_->release_finish(stream);
    } else if (consumer.releasable(stream)) {
      wait.idle(); // another thread is releasing, and these entries perhaps with its own
    } else {
      break;
    }
  }
  if (marked) medium_.drain(); // [entries-released]
  if (options_.entries > options_.first_entries) queues_->maintain(1);
  return medium_.failed() ? queue_status::failed : queue_status::done;
}

void durable_queue::give_back(std::uint32_t stream, std::span<const taken> entries) noexcept {
  const queue_consumer consumer(*queues_);
  for (const taken& t : entries)
    consumer.nack(stream, t.entry);
}

std::uint32_t durable_queue::depth(std::uint32_t stream) const noexcept {
  return queues_->depth(stream);
}

std::uint64_t durable_queue::damaged() const noexcept {
  return damaged_.load(std::memory_order_relaxed); // [queue-damage-shown]
}

} // namespace chainring
