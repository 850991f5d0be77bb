// SPDX-License-Identifier: BSD-3-Clause
// Edges:
//   [D1] release of a cell's commit word -> [D2] acquire when it is read
//
// Crash windows:
//   [D3 < D1] a long key's chain drained before the cell that names it is committed.
//      Crash between: the chain is unreachable, its blocks are free.
//   [D1 < D4] the commit drained before the index has it, so before any reader.
//      Crash between: nobody has seen it.
//   [D5 < D6] an erased cell drained before it is free for reuse, and its chain released.
//      Crash between: it is free at the next open.
#include "map/durable_map.h"

#include <cstring>

#include "base/crc32c.h"
#include "base/hook.h"

namespace chainring {

namespace {

std::uint64_t load(const std::uint64_t& word) noexcept {
  // [D2] acquire: pairs with [D1].
  return std::atomic_ref(const_cast<std::uint64_t&>(word)).load(std::memory_order_acquire);
}

// Of a long key, kept on media: one that does not change with the process.
std::uint64_t media_hash(std::span<const std::byte> key) noexcept {
  return hash_bytes(key, 0);
}

chain chain_of(const map_cell& c) noexcept {
  return {static_cast<std::uint32_t>(c.key[1]), static_cast<std::uint32_t>(c.key[1] >> 32)};
}

} // namespace

durable_map::durable_map(media& on, map_cell* cells, std::uint64_t count, block_store& blocks)
    : media_(on), cells_(cells), count_(count), blocks_(blocks), seed_(random_seed()) {}

result<std::unique_ptr<durable_map>> durable_map::create(media& on, std::uint64_t offset,
                                                         std::uint64_t cells, block_store& blocks) {
  if (cells == 0 || cells > UINT32_MAX || offset % cacheline_size != 0 ||
      offset + cells * sizeof(map_cell) > on.size())
    return error{errc::invalid_argument, "map of " + std::to_string(cells) +
                                             " cells: expected 1 to 2^32 - 1 of them, on a line, "
                                             "inside the region"};
  std::unique_ptr<durable_map> m(
      new durable_map(on, reinterpret_cast<map_cell*>(on.base() + offset), cells, blocks));
  auto index = seq_map<std::uint64_t, entry>::create(cells);
  if (!index) return index.error();
  m->index_ = std::move(index).value();
  m->free_.reserve(cells);
  return m;
}

std::uint64_t durable_map::hash(key_span key) const noexcept {
  return hash_bytes(key, seed_);
}

durable_map::key_span
durable_map::key_at(std::uint64_t cell,
                    std::array<std::byte, map_key_inline>& copy) const noexcept {
  const map_cell& c = cells_[cell];
  const map_word0 w = map_word0::unpack(load(c.state));
  if (w.long_key) return {blocks_.address(chain_of(c)), w.key_size};
  std::memcpy(copy.data(), c.key, copy.size());
  return {copy.data(), w.key_size};
}

bool durable_map::same_key(std::uint32_t cell, key_span key) const noexcept {
  const map_cell& c = cells_[cell];
  const map_word0 w = map_word0::unpack(load(c.state));
  if (!w.used || w.key_size != key.size()) return false;
  if (w.long_key && c.key[0] != media_hash(key)) return false;
  std::array<std::byte, map_key_inline> copy;
  return std::memcmp(key_at(cell, copy).data(), key.data(), key.size()) == 0;
}

std::optional<map_value> durable_map::get(key_span key) const noexcept {
  const std::uint64_t hashed = hash(key);
  for (;;) {
    const auto first = index_->get(hashed);
    if (!first || !same_key(first->cell, key)) return std::nullopt;
    const auto again = index_->get(hashed);
    if (!again || again->cell != first->cell) continue; // replaced while the key was compared
    map_value v;
    v.bytes = again->value;
    v.size = again->value_size;
    return v;
  }
}

map_status durable_map::insert(key_span key, std::span<const std::byte> value) noexcept {
  return put(key, value, true, false);
}
map_status durable_map::update(key_span key, std::span<const std::byte> value) noexcept {
  return put(key, value, false, true);
}
map_status durable_map::upsert(key_span key, std::span<const std::byte> value) noexcept {
  return put(key, value, true, true);
}

map_status durable_map::put(key_span key, std::span<const std::byte> value, bool may_insert,
                            bool may_update) noexcept {
  if (key.empty() || key.size() > map_key_max || value.size() > map_value_max)
    return map_status::too_long;
  const std::lock_guard guard(writer_);
  const std::uint64_t hashed = hash(key);
  auto found = index_->get(hashed);
  if (found && !same_key(found->cell, key)) return map_status::full; // 64-bit hashes are equal
  if (!found) return may_insert ? store_new(hashed, key, value) : map_status::missing;
  if (!may_update) return map_status::exists;
  map_cell& c = cells_[found->cell];
  map_word0 w = map_word0::unpack(load(c.state));
  w.half ^= 1;
  w.value_size = static_cast<std::uint8_t>(value.size());
  ++w.version;
  std::uint64_t words[2] = {};
  std::memcpy(words, value.data(), value.size());
  media_.store(&c.value[w.half][0], words[0]);
  media_.store(&c.value[w.half][1], words[1]);
  media_.store_release(&c.state, w.pack()); // [D1] pairs with [D2]
  media_.flush(&c, sizeof c);               // [D1]
  media_.drain();                           // [D1 < D4]
  found->value_size = static_cast<std::uint32_t>(value.size());
  found->value = {};
  std::memcpy(found->value.data(), value.data(), value.size());
  return index_->update(hashed, *found); // [D4]
}

map_status durable_map::store_new(std::uint64_t hashed, key_span key,
                                  std::span<const std::byte> value) noexcept {
  if (free_.empty()) return map_status::full;
  map_word0 w;
  w.used = true;
  w.key_size = static_cast<std::uint16_t>(key.size());
  w.value_size = static_cast<std::uint8_t>(value.size());
  w.long_key = key.size() > map_key_inline;
  std::uint64_t words[3] = {};
  if (w.long_key) {
    chain where;
    if (!blocks_.allocate_contiguous(static_cast<std::uint32_t>(blocks_.blocks_for(key.size())),
                                     where))
      return map_status::full;
    media_.write(blocks_.address(where), key.data(), key.size());
    media_.flush(blocks_.address(where), key.size()); // [D3]
    media_.drain();                                   // [D3 < D1]
    words[0] = media_hash(key);
    words[1] = std::uint64_t{where.first} | std::uint64_t{where.blocks} << 32;
  } else {
    std::memcpy(words, key.data(), key.size());
  }
  const std::uint32_t cell = free_.back();
  free_.pop_back();
  map_cell& c = cells_[cell];
  w.version = static_cast<std::uint16_t>(map_word0::unpack(load(c.state)).version + 1);
  entry e;
  e.cell = cell;
  e.value_size = static_cast<std::uint32_t>(value.size());
  std::memcpy(e.value.data(), value.data(), value.size());
  std::uint64_t halves[2] = {};
  std::memcpy(halves, value.data(), value.size());
  for (int i = 0; i < 3; ++i)
    media_.store(&c.key[i], words[i]);
  media_.store(&c.value[0][0], halves[0]);
  media_.store(&c.value[0][1], halves[1]);
  media_.store_release(&c.state, w.pack()); // [D1] pairs with [D2]
  media_.flush(&c, sizeof c);               // [D1]
  media_.drain();                           // [D1 < D4]
  hook_point("map.insert.drained");
  return index_->insert(hashed, e); // [D4]
}

map_status durable_map::erase(key_span key) noexcept {
  const std::lock_guard guard(writer_);
  const std::uint64_t hashed = hash(key);
  const auto found = index_->get(hashed);
  if (!found || !same_key(found->cell, key)) return map_status::missing;
  map_cell& c = cells_[found->cell];
  const map_word0 w = map_word0::unpack(load(c.state));
  const chain where = chain_of(c);
  index_->erase(hashed); // whoever looks now may as well have looked later
  map_word0 gone;
  gone.version = static_cast<std::uint16_t>(w.version + 1);
  media_.store_release(&c.state, gone.pack()); // [D5] pairs with [D2]
  media_.flush(&c.state, sizeof c.state);      // [D5]
  media_.drain();                              // [D5 < D6]
  free_.push_back(found->cell);                // [D6]
  if (w.long_key) blocks_.release(where);      // [D6]
  return map_status::done;
}

void durable_map::for_each(
    const std::function<void(key_span, std::span<const std::byte>)>& fn) const {
  const std::lock_guard guard(writer_);
  std::array<std::byte, map_key_inline> copy;
  index_->for_each([&](const std::uint64_t&, const entry& e) {
    fn(key_at(e.cell, copy), std::span(e.value).first(e.value_size));
  });
}

// --- recovery ---------------------------------------------------------------------------------

const char* durable_map::examine(std::uint64_t cell) const noexcept {
  const map_cell& c = cells_[cell];
  const std::uint64_t word = load(c.state);
  if (!map_word0::well_formed(word)) return "its commit word cannot be";
  const map_word0 w = map_word0::unpack(word);
  if (!w.used) return nullptr;
  if (w.long_key) {
    const chain where = chain_of(c);
    if (!blocks_.valid(where) || where.blocks != blocks_.blocks_for(w.key_size))
      return "its key's chain cannot be";
    if (media_hash({blocks_.address(where), w.key_size}) != c.key[0])
      return "its key does not have the hash it should";
    return nullptr;
  }
  const auto* bytes = reinterpret_cast<const unsigned char*>(c.key);
  for (std::size_t i = w.key_size; i < map_key_inline; ++i)
    if (bytes[i] != 0) return "there is something behind its key";
  return nullptr;
}

void durable_map::persist_as_read() noexcept {
  media_.flush_read(cells_, count_ * sizeof(map_cell)); // [D7]
  for (std::uint64_t i = 0; i < count_; ++i) {
    const map_cell& c = cells_[i];
    const std::uint64_t word = load(c.state);
    if (!map_word0::well_formed(word)) continue;
    const map_word0 w = map_word0::unpack(word);
    if (w.used && w.long_key && blocks_.valid(chain_of(c)) &&
        blocks_.size_of(chain_of(c)) >= w.key_size)
      media_.flush_read(blocks_.address(chain_of(c)), w.key_size); // [D7] the caller drains
  }
}

map_recovery durable_map::recover(const std::function<bool(key_span)>& wanted) {
  map_recovery r;
  free_.clear();
  std::array<std::byte, map_key_inline> copy;
  for (std::uint64_t i = count_; i-- > 0;) {
    map_cell& c = cells_[i];
    const char* wrong = examine(i);
    const map_word0 w = map_word0::unpack(load(c.state));
    if (wrong == nullptr && !w.used) {
      free_.push_back(static_cast<std::uint32_t>(i));
      continue;
    }
    if (wrong == nullptr) {
      const key_span key = key_at(i, copy);
      if (wanted && !wanted(key)) {
        map_word0 gone;
        gone.version = static_cast<std::uint16_t>(w.version + 1);
        media_.store_release(&c.state, gone.pack()); // [D5] pairs with [D2]
        media_.flush(&c.state, sizeof c.state);      // [D5] the caller drains
        free_.push_back(static_cast<std::uint32_t>(i));
        ++r.voided;
        continue;
      }
      if (w.long_key && !blocks_.mark_live(chain_of(c))) {
        wrong = "its key's chain is somebody else's too";
      } else {
        entry e;
        e.cell = static_cast<std::uint32_t>(i);
        e.value_size = w.value_size;
        std::memcpy(e.value.data(), c.value[w.half], w.value_size);
        if (index_->insert(hash(key), e) == map_status::done) {
          ++r.entries;
          continue;
        }
        wrong = "another cell has its key";
      }
    }
    ++r.damaged;
    if (r.notes.size() < 100) r.notes.push_back("map cell " + std::to_string(i) + ": " + wrong);
  }
  return r;
}

map_recovery durable_map::check() const {
  map_recovery r;
  for (std::uint64_t i = 0; i < count_; ++i) {
    const char* wrong = examine(i);
    if (wrong == nullptr) {
      r.entries += map_word0::unpack(load(cells_[i].state)).used;
      continue;
    }
    ++r.damaged;
    if (r.notes.size() < 100) r.notes.push_back("map cell " + std::to_string(i) + ": " + wrong);
  }
  return r;
}

} // namespace chainring
