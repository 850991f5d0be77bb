// SPDX-License-Identifier: BSD-3-Clause
// Map cells and messages.
#include "inspect/record_reader.h"

#include "map/map_hash.h"
#include "message/message_media.h"

namespace chainring::detail {

namespace {

bool zero_behind(const std::uint64_t* words, std::size_t size, std::size_t room) noexcept {
  const auto* bytes = reinterpret_cast<const unsigned char*>(words);
  for (std::size_t i = size; i < room; ++i)
    if (bytes[i] != 0) return false;
  return true;
}

void take(std::vector<std::byte>& out, const void* from, std::size_t n) {
  const auto* bytes = static_cast<const std::byte*>(from);
  out.assign(bytes, bytes + n);
}

std::uint64_t low(std::uint64_t word) noexcept {
  return word & 0xffff'ffff;
}

} // namespace

record_table record_reader::table(const char* name, std::uint64_t record_bytes) const {
  record_table t(record_bytes);
  for (const region_root& root : region_.ranges(name))
    t.add(region_.at(root.offset), root.size);
  return t;
}

const std::byte* record_reader::chain(std::uint64_t first, std::uint64_t blocks) const noexcept {
  if (blocks == 0 || blocks > geometry_.block_count || first > geometry_.block_count - blocks)
    return nullptr;
  return region_.at(geometry_.block_offset + first * geometry_.block_size);
}

bool record_reader::chain_bytes(std::uint64_t first, std::uint64_t blocks, std::uint64_t size,
                                std::vector<std::byte>& out) const {
  const std::byte* from = chain(first, blocks);
  if (from == nullptr || blocks != blocks_for(size)) return false;
  take(out, from, size);
  return true;
}

// --- map cells ----------------------------------------------------------------------------------

const char* record_reader::judge_cell(const map_cell& c, std::uint64_t number, cell_entry& out,
                                      bool& led) const {
  out.used = false;
  if (!map_word0::well_formed(c.state)) return "its commit word is malformed";
  const map_word0 w = map_word0::unpack(c.state);
  if (!w.used) return nullptr;
  const auto& half = c.value[w.half];
  if (map_check(number, w, c.key, half) != w.check) return "its check does not match its contents";
  led = w.long_key() || w.long_value();
  if (w.long_key()) {
    if (c.key[2] != 0 || !chain_bytes(low(c.key[1]), c.key[1] >> 32, w.key_size, out.key))
      return "the chain of its key is impossible";
    if (hash_bytes(out.key, 0) != c.key[0]) return "the bytes of its key do not match their hash";
  } else {
    if (!zero_behind(c.key, w.key_size, sizeof c.key))
      return "the bytes behind the end of its key are not zero";
    take(out.key, c.key, w.key_size);
  }
  if (w.long_value()) {
    if (!chain_bytes(low(half[0]), half[0] >> 32, w.value_size, out.value))
      return "the chain of its value is impossible";
    if (crc32c(0, out.value.data(), out.value.size()) != half[1])
      return "the bytes of its value do not match their CRC";
  } else {
    if (!w.owners_words && !zero_behind(half, w.value_size, sizeof half))
      return "the bytes behind the end of its value are not zero";
    take(out.value, half, w.value_size);
  }
  out.used = true;
  return nullptr;
}

reading record_reader::cell(const std::byte* at, std::uint64_t number, cell_entry& out,
                            const char*& why) const {
  map_cell copy;
  return read(at, copy, why,
              [&](const map_cell& c, bool& led) { return judge_cell(c, number, out, led); });
}

// --- messages -----------------------------------------------------------------------------------

// Copies the content of a message and checks the seal of its chain.
const char* record_reader::content(const message_descriptor& d, message_ref ref, std::uint64_t size,
                                   std::vector<std::byte>& out) const {
  out.clear();
  const message_word1 extent = message_word1::unpack(d.extent);
  const auto sealed = [&](std::uint32_t list) {
    const std::uint32_t seal = message_seal(d.extent, list, ref.index, ref.generation);
    return seal == static_cast<std::uint32_t>(d.seals) || seal == d.seals >> 32;
  };
  constexpr const char* unsealed = "its chain fails its seal";
  if (size == 0) {
    if (d.extent != 0) return "it is empty and names a chain";
    return sealed(0) ? nullptr : unsealed;
  }
  if (!extent.list) {
    // The seal is checked first, so that what fails it costs no copy.
    if (!sealed(0)) return unsealed;
    return chain_bytes(extent.first, extent.count, size, out) ? nullptr
                                                              : "its chain and its sizes differ";
  }
  if (extent.count < 2 || extent.count > message_table::extents_max)
    return "its extent list has an impossible length";
  const std::uint64_t list_bytes = std::uint64_t{extent.count} * sizeof(message_extent);
  std::vector<std::byte> list;
  if (!chain_bytes(extent.first, blocks_for(list_bytes), list_bytes, list))
    return "its extent list lies outside the block store";
  if (!sealed(crc32c(0, list.data(), list.size()))) return unsealed;
  std::uint64_t left = blocks_for(size), bytes = size;
  for (std::uint32_t i = 0; i < extent.count; ++i) {
    message_extent e;
    std::memcpy(&e, list.data() + i * sizeof e, sizeof e);
    const std::byte* from = chain(e.first, e.blocks);
    if (from == nullptr) return "an extent lies outside the block store";
    if (e.blocks > left) return "its extents and its sizes differ";
    left -= e.blocks;
    const std::uint64_t n =
        std::min<std::uint64_t>(bytes, std::uint64_t{e.blocks} * geometry_.block_size);
    out.insert(out.end(), from, from + n);
    bytes -= n;
  }
  return left == 0 ? nullptr : "its extents and its sizes differ";
}

const char* record_reader::judge_message(const message_descriptor& d, message_ref ref,
                                         message_look& out, bool& led) const {
  const auto payload = static_cast<std::uint32_t>(d.sizes);
  const auto topic = static_cast<std::uint16_t>(d.sizes >> 32);
  const std::uint64_t properties = d.sizes >> 48 | d.check >> 56 << 16;
  out.qos = d.check >> 48 & 3;
  out.flags = d.check >> 50 & 0x3f;
  out.packet_id = static_cast<std::uint16_t>(d.check >> 32);
  if (out.qos > 2) return "its QoS is more than 2";
  if ((out.flags & ~message_flags_known) != 0) return "it has unknown flags";
  led = true;
  std::vector<std::byte> all;
  if (const char* why = content(d, ref, payload + topic + properties, all)) return why;
  std::uint32_t crc = crc32c(0, all.data(), all.size());
  const std::uint64_t fields[] = {d.sizes, d.check & ~std::uint64_t{0xffff'ffff}, d.expires_ns,
                                  d.published_ns, d.publisher};
  crc = crc32c(crc, fields, sizeof fields);
  const std::uint32_t named[] = {ref.index, ref.generation};
  if (crc32c(crc, named, sizeof named) != static_cast<std::uint32_t>(d.check))
    return "its content fails its CRC32C";
  out.number = ref.index;
  out.generation = ref.generation;
  out.publisher = static_cast<std::uint32_t>(d.publisher);
  out.published_ns = d.published_ns;
  out.expires_ns = d.expires_ns;
  const auto part = [&, from = all.begin()](std::uint64_t n) mutable {
    const auto at = from;
    from += static_cast<std::ptrdiff_t>(n);
    return std::pair(at, from);
  };
  auto parts = part;
  const auto t = parts(topic);
  out.topic.clear();
  for (auto at = t.first; at != t.second; ++at)
    out.topic += static_cast<char>(*at);
  const auto p = parts(properties);
  out.properties.assign(p.first, p.second);
  out.payload.assign(p.second, all.end());
  return nullptr;
}

reading record_reader::message(const record_table& messages, message_ref ref, bool held_counts,
                               message_look& out, bool& present, const char*& why) const {
  present = false;
  const std::byte* at = messages.at(ref.index);
  if (at == nullptr) {
    why = "it names a message that does not exist";
    return reading::damaged;
  }
  message_descriptor copy;
  return read(at, copy, why, [&](const message_descriptor& d, bool& led) -> const char* {
    present = false;
    if (!message_word0::well_formed(d.state)) return "its state word is not well formed";
    const message_word0 w = message_word0::unpack(d.state);
    if (w.generation != ref.generation || w.state < message_state::held ||
        (w.state == message_state::held && !held_counts))
      return nullptr;
    out.held = w.state == message_state::held;
    out.identifier_open = w.identifier_open;
    present = true;
    return judge_message(d, ref, out, led);
  });
}

} // namespace chainring::detail
