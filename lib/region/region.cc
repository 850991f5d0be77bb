// SPDX-License-Identifier: BSD-3-Clause
// Crash windows:
//   [R1 < R2] areas and directory drained before the first superblock is written.
//      Crash between: no valid superblock, so not a region.
//   [R2] a superblock is written whole over the older of two, with its CRC.
//      Crash while it is: the other one counts, and says the same of everything but this change.
//   [R3 < R2] at open, what was read is drained before the superblock says there is a new life.
//      Crash between: nothing was changed.
#include "region/region.h"

#include <algorithm>
#include <cstring>
#include <random>

#include "base/crc32c.h"
#include "region/region_media.h"

namespace chainring {

namespace {

std::uint32_t crc_of(const superblock& s) {
  return crc32c(0, &s, offsetof(superblock, crc));
}
std::uint32_t crc_of(const root_entry& r) {
  return crc32c(0, &r, offsetof(root_entry, crc));
}

// What is wrong with a superblock; empty: nothing.
std::string examine(const superblock& s, std::uint64_t media_size) {
  if (s.magic != region_magic) return "has no region magic";
  if (s.crc != crc_of(s)) return "fails its checksum";
  if (s.format_major != region_format_major)
    return "has format version " + std::to_string(s.format_major) + ", this build knows " +
           std::to_string(region_format_major);
  if ((s.incompat & ~region_incompat_known) != 0)
    return "needs features this build does not know (incompat flags " + std::to_string(s.incompat) +
           ")";
  if (s.size > media_size)
    return "says the region has " + std::to_string(s.size) + " bytes, and there are only " +
           std::to_string(media_size) + ": the file was truncated";
  const bool block_size_ok =
      s.block_size >= 64 && s.block_size <= 4096 && (s.block_size & (s.block_size - 1)) == 0;
  if (!block_size_ok || s.block_offset % 4096 != 0 || s.block_offset < areas_offset ||
      s.block_offset > s.size || s.block_count > (s.size - s.block_offset) / s.block_size ||
      s.root_count > root_directory_entries)
    return "has a geometry that cannot be";
  return {};
}

} // namespace

result<std::unique_ptr<region>> region::create(const region_options& options) {
  auto on = create_media(options.media);
  if (!on) return on.error();
  return create_on(std::move(on).value(), options);
}

result<std::unique_ptr<region>> region::create_on(std::unique_ptr<media> on,
                                                  const region_options& options) {
  const std::uint32_t bs = options.block_size;
  if (bs < 64 || bs > 4096 || (bs & (bs - 1)) != 0)
    return error{errc::invalid_argument,
                 "block size " + std::to_string(bs) + ": expected a power of two from 64 to 4096"};
  if (options.areas.size() > root_directory_entries)
    return error{errc::invalid_argument,
                 "areas: there is room for " + std::to_string(root_directory_entries)};
  std::unique_ptr<region> r(new region);
  r->media_ = std::move(on);
  std::uint64_t at = areas_offset;
  for (const area_spec& a : options.areas) {
    if (a.name.empty() || a.name.size() > 31)
      return error{errc::invalid_argument, "area '" + a.name + "': a name has 1 to 31 characters"};
    for (const region_root& other : r->roots_)
      if (other.name == a.name)
        return error{errc::invalid_argument, "area '" + a.name + "': named twice"};
    const std::uint64_t size = align_up(a.size, cacheline_size);
    r->roots_.push_back({a.name, at, size, a.version});
    at += size;
  }
  region_geometry& g = r->geometry_;
  g.block_size = bs;
  g.block_offset = align_up(at, 4096);
  g.size = r->media_->size();
  if (g.block_offset + bs > g.size)
    return error{errc::invalid_argument,
                 "region size " + std::to_string(g.size) + ": its areas need " +
                     std::to_string(g.block_offset + bs) + " bytes at least"};
  g.block_count = (g.size - g.block_offset) / bs;

  std::random_device random;
  for (std::uint64_t& half : r->uuid_)
    half = std::uint64_t{random()} << 32 | random();
  media& m = *r->media_;
  for (std::size_t i = 0; i < r->roots_.size(); ++i) {
    root_entry e{};
    e.offset = r->roots_[i].offset;
    e.size = r->roots_[i].size;
    e.version = r->roots_[i].version;
    std::memcpy(e.name, r->roots_[i].name.data(), r->roots_[i].name.size());
    e.crc = crc_of(e);
    m.write(r->at(root_directory_offset + i * sizeof e), &e, sizeof e);
  }
  m.flush(r->at(root_directory_offset), root_directory_entries * sizeof(root_entry)); // [R1]
  m.drain();                                                                          // [R1 < R2]
  r->incarnation_ = 1;
  r->store_superblock(false);
  if (!m.wait(m.mark())) return error{errc::io, "region " + m.path() + ": it could not be written"};
  return r;
}

result<std::unique_ptr<region>> region::open(const media_options& options) {
  auto on = open_media(options);
  if (!on) return on.error();
  auto r = open_on(std::move(on).value(), options.read_only);
  if (!r) return r;
  if (!options.read_only && options.size > (*r)->geometry_.size)
    if (auto grown = (*r)->grow(options.size); !grown) return grown.error();
  return r;
}

result<std::unique_ptr<region>> region::open_on(std::unique_ptr<media> on, bool read_only) {
  std::unique_ptr<region> r(new region);
  r->media_ = std::move(on);
  r->read_only_ = read_only;
  media& m = *r->media_;
  const std::string name = "region " + m.path() + ": ";
  if (m.size() < areas_offset)
    return error{errc::corrupt, name + "it has " + std::to_string(m.size()) +
                                    " bytes, too few for a region: the file was truncated"};
  const superblock* best = nullptr;
  std::string wrong;
  errc code = errc::corrupt;
  for (int i = 0; i < 2; ++i) {
    const auto* s = reinterpret_cast<const superblock*>(r->at(superblock_offsets[i]));
    const std::string why = examine(*s, m.size());
    if (why.empty()) {
      if (best == nullptr || s->sequence > best->sequence) best = s;
      continue;
    }
    const bool unused = s->magic == 0 && s->sequence == 0; // never written so far
    if (!unused || i == 0)
      wrong +=
          std::string(wrong.empty() ? "" : "; ") + "superblock " + (i == 0 ? "A " : "B ") + why;
    if (s->magic == region_magic && s->crc == crc_of(*s) && s->size <= m.size())
      code = errc::version;
  }
  if (best == nullptr)
    return error{code, name + wrong +
                           ". It is not a region, or it is damaged beyond use; nothing "
                           "was changed"};
  const superblock s = *best;
  if (!wrong.empty()) r->notes_.push_back(wrong + "; the other superblock is used");
  if ((s.ro_compat & ~region_ro_compat_known) != 0 && !read_only)
    return error{errc::version, name +
                                    "it has features this build can only read (ro_compat flags " +
                                    std::to_string(s.ro_compat) + "): open it read-only"};
  r->geometry_ = {s.size, s.block_size, s.block_offset, s.block_count};
  r->uuid_ = {s.uuid[0], s.uuid[1]};
  r->sequence_ = s.sequence;
  r->incarnation_ = s.incarnation;
  r->was_clean_ = s.clean != 0;
  for (std::uint32_t i = 0; i < s.root_count; ++i) {
    root_entry e;
    std::memcpy(&e, r->at(root_directory_offset + i * sizeof e), sizeof e);
    const std::string object = name + "root " + std::to_string(i) + " ";
    if (e.crc != crc_of(e)) return error{errc::corrupt, object + "fails its checksum"};
    if (e.name[31] != 0 || e.offset < areas_offset || e.offset % cacheline_size != 0 ||
        e.offset > s.block_offset || e.size > s.block_offset - e.offset)
      return error{errc::corrupt, object + "has a range or name that cannot be"};
    for (const region_root& other : r->roots_)
      if (e.offset < other.offset + other.size && other.offset < e.offset + e.size)
        return error{errc::corrupt, object + "overlaps root '" + other.name + "'"};
    r->roots_.push_back({e.name, e.offset, e.size, e.version});
  }
  if (!read_only) {
    m.flush_read(r->at(0), areas_offset); // [R3]
    m.drain();                            // [R3 < R2]
    ++r->incarnation_;
    r->store_superblock(false);
  }
  return r;
}

region::~region() = default;

// [R2] Writes the next superblock over the older one.
void region::store_superblock(bool clean) noexcept {
  superblock s{};
  s.magic = region_magic;
  s.format_major = region_format_major;
  s.format_minor = region_format_minor;
  s.clean = clean ? 1 : 0;
  s.uuid[0] = uuid_[0];
  s.uuid[1] = uuid_[1];
  s.sequence = ++sequence_;
  s.incarnation = incarnation_;
  s.size = geometry_.size;
  s.block_offset = geometry_.block_offset;
  s.block_count = geometry_.block_count;
  s.block_size = geometry_.block_size;
  s.root_count = static_cast<std::uint32_t>(roots_.size());
  s.crc = crc_of(s);
  // Sequence 1 goes to A, 2 to B, and so on: the one that counts is never written over.
  std::byte* to = at(superblock_offsets[(sequence_ + 1) % 2]);
  media_->write(to, &s, sizeof s);
  media_->flush(to, sizeof s); // [R2]
  media_->drain();             // [R2]
}

std::string region::uuid() const {
  char text[40];
  std::snprintf(text, sizeof text, "%08x-%04x-%04x-%04x-%012llx",
                static_cast<unsigned>(uuid_[0] >> 32),
                static_cast<unsigned>(uuid_[0] >> 16 & 0xffff),
                static_cast<unsigned>(uuid_[0] & 0xffff), static_cast<unsigned>(uuid_[1] >> 48),
                static_cast<unsigned long long>(uuid_[1] & 0xffffffffffff));
  return text;
}

result<region_root> region::root(std::string_view name) const {
  for (const region_root& r : roots_)
    if (r.name == name) return r;
  return error{errc::not_found,
               "region " + media_->path() + ": it has no root '" + std::string(name) + "'"};
}

result<void> region::grow(std::uint64_t size) {
  if (read_only_) return error{errc::read_only, "grow: the region is open for reading only"};
  if (size <= geometry_.size) return {};
  if (auto grown = media_->grow(size); !grown) return grown;
  geometry_.size = media_->size();
  geometry_.block_count = (geometry_.size - geometry_.block_offset) / geometry_.block_size;
  store_superblock(false);
  if (!media_->wait(media_->mark()))
    return error{errc::io, "region " + media_->path() + ": it could not be written"};
  return {};
}

result<void> region::close() {
  if (closed_) return {};
  closed_ = true;
  if (!read_only_) store_superblock(true);
  return media_->close();
}

} // namespace chainring
