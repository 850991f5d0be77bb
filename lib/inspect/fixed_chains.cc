// SPDX-License-Identifier: BSD-3-Clause
#include "inspect/fixed_chains.h"

#include "broker/broker_media.h"
#include "broker/store.h"
#include "inspect/record_reader.h"
#include "ring/ring.h"

namespace chainring::detail {

namespace {

class finder {
 public:
  explicit finder(const region& in) : region_(in), records_(in), geometry_(in.geometry()) {}

  fixed_chains find() {
    for (const region_root& root : region_.roots())
      if (root.kind == root_kind::range)
        note((root.offset - geometry_.block_offset) / geometry_.block_size, blocks_for(root.size),
             [&] { return "range '" + root.name + "'"; });
    inspection look(region_);
    if (look.has_broker()) {
      identities(store_area::sessions, "session ");
      identities(store_area::groups, "group ");
      rings(records_.table(store_area::queues, sizeof(queue_record)), "queue ");
      rings(records_.table(store_area::group_queues, sizeof(queue_record)), "the queue of group ");
      cells(records_.table(store_area::subscriptions, sizeof(map_cell)), "the subscriptions");
      cells(records_.table(store_area::retained, sizeof(map_cell)), "the retained messages");
      return std::move(found_);
    }
    for (const object_look& o : look.objects()) {
      const object_tables t(region_, o);
      rings(t.streams, "object '" + o.name + "', stream ");
      cells(t.cells, "object '" + o.name + "'");
    }
    return std::move(found_);
  }

 private:
  [[nodiscard]] std::uint64_t blocks_for(std::uint64_t bytes) const noexcept {
    return (bytes + geometry_.block_size - 1) / geometry_.block_size;
  }
  template <class Name> void note(std::uint64_t first, std::uint64_t blocks, Name&& name) {
    found_.blocks += blocks;
    if (first + blocks <= found_.end) return;
    found_.end = first + blocks;
    found_.last = name();
  }

  void identities(const char* table, const char* noun) {
    const record_table t = records_.table(table, sizeof(session_record));
    for (std::uint64_t n = 0; n < t.count(); ++n) {
      const auto& r = *reinterpret_cast<const session_record*>(t.at(n));
      if (session_word0::unpack(r.state).state == session_state::free ||
          session_word1::unpack(r.attributes).identity_size <= identity_inline_max)
        continue;
      note(r.identity[1] & 0xffff'ffff, r.identity[1] >> 32,
           [&] { return "the identity of " + (noun + std::to_string(n)); });
    }
  }

  void rings(const record_table& t, const std::string& noun) {
    for (std::uint64_t n = 0; n < t.count(); ++n) {
      const auto& q = *reinterpret_cast<const queue_record*>(t.at(n));
      const queue_commit c = queue_commit::unpack(q.commit);
      for (unsigned k = 0; k < c.count; ++k) {
        const queue_ring& r = q.rings[(c.first + k) % queue_rings_max];
        note(r.first_block(),
             blocks_for(ring_header_size + (std::uint64_t{sizeof(ring_slot)}
                                            << queue_base::unpack(r.base).log2_slots)),
             [&] { return "a ring of " + noun + std::to_string(n); });
      }
    }
  }

  void cells(const record_table& t, const std::string& of) {
    for (std::uint64_t n = 0; n < t.count(); ++n) {
      const auto& c = *reinterpret_cast<const map_cell*>(t.at(n));
      const map_word0 w = map_word0::unpack(c.state);
      if (!w.used) continue;
      const auto chain = [&](std::uint64_t word, const char* part) {
        note(word & 0xffff'ffff, word >> 32,
             [&] { return part + std::to_string(n) + " of " + of; });
      };
      if (w.long_key()) chain(c.key[1], "the key in cell ");
      if (w.long_value()) chain(c.value[w.half][0], "the value in cell ");
    }
  }

  const region& region_;
  const record_reader records_;
  const region_geometry& geometry_;
  fixed_chains found_;
};

} // namespace

fixed_chains find_fixed_chains(const region& in) {
  return finder(in).find();
}

} // namespace chainring::detail
