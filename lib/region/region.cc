// SPDX-License-Identifier: BSD-3-Clause
// Edges (threads: none; every call but at() and the marks comes from one thread at a time):
//   [R2] and [R6] are commit words: released for the crash model's sake, first after what they make
//   valid in program order, in one line.
//
// Crash windows:
//   [R1 < R2] an entry's words before its commit word, in program order in one line.
//      Crash between: the entry is free.
//   [R3 < R6] areas cleared, directory and the superblocks' second lines drained before a magic.
//      Crash between: neither superblock has a magic, so there is no region.
//   [R4 < R6] what open() read is drained before a superblock is stored.
//      Without it: the newer superblock, visible and not durable, is lost in a power cut while the
//      older one is being written over; or a root that was served vanishes.
//   [R5 < R6] the superblock's magic goes first and comes last, in one line.
//      Crash between: no magic, and the other superblock counts.
//   [R6 < R5] one superblock drained before the other is stored over.
//      Without it: a power cut leaves neither.
//   [R7 < R6] the file grown and synced before a superblock says so.
//      Crash between: the medium is longer than the region, and the next grow() uses that.
#include "region/region.h"

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <random>

#include "base/hook.h"
#include "region/region_cases.h"

namespace chainring {

namespace {

constexpr std::size_t words_of_a_line = cacheline_size / sizeof(std::uint64_t);

struct layout {
  std::vector<region_root> areas;
  std::uint64_t areas_size = 0;
  std::uint64_t block_offset = 0;
  std::uint64_t block_count = 0;
};

/// Where everything goes in a region of `size` bytes.
result<layout> plan(const region_options& o, std::uint64_t size) {
  const std::uint32_t bs = o.block_size;
  if (bs < 64 || bs > 4096 || (bs & (bs - 1)) != 0)
    return error{errc::invalid_argument,
                 "block size " + std::to_string(bs) + ": expected a power of two from 64 to 4096"};
  if (o.areas.size() > root_directory_entries)
    return error{errc::invalid_argument, "areas: " + std::to_string(o.areas.size()) +
                                             " are asked for, and there is room for " +
                                             std::to_string(root_directory_entries)};
  layout l;
  std::uint64_t at = areas_offset;
  for (const area_spec& a : o.areas) {
    if (a.name.empty() || a.name.size() >= sizeof(root_entry::name) ||
        a.name.find('\0') != std::string::npos)
      return error{errc::invalid_argument, "area '" + a.name + "': a name has 1 to 31 characters"};
    if (std::any_of(l.areas.begin(), l.areas.end(),
                    [&](const region_root& r) { return r.name == a.name; }))
      return error{errc::invalid_argument, "area '" + a.name + "': named twice"};
    if (a.size > size)
      return error{errc::invalid_argument, "area '" + a.name + "': " + std::to_string(a.size) +
                                               " bytes do not fit a region of " +
                                               std::to_string(size)};
    const std::uint64_t bytes = align_up(a.size, cacheline_size);
    l.areas.push_back({a.name, at, bytes, a.version, root_kind::area});
    at += bytes;
  }
  l.areas_size = at - areas_offset;
  l.block_offset = align_up(at, 4096);
  if (l.block_offset + bs > size)
    return error{errc::invalid_argument, "region size " + std::to_string(size) +
                                             ": its areas and one block need " +
                                             std::to_string(l.block_offset + bs) + " bytes"};
  l.block_count = (size - l.block_offset) / bs;
  return l;
}

bool is_zero(const std::byte* p, std::uint64_t n) noexcept {
  return n == 0 || (*p == std::byte{0} && std::memcmp(p, p + 1, n - 1) == 0);
}

/// Makes [from, from + n) zero and durable: whole lines that nothing names. What is zero already
/// need not be durably so: a create() that died may have made it zero.
void clear(media& m, std::byte* from, std::uint64_t n) noexcept {
  static const std::byte zeros[4096]{};
  for (std::uint64_t at = 0; at < n; at += sizeof zeros) {
    const std::uint64_t now = std::min<std::uint64_t>(sizeof zeros, n - at);
    if (seeded_bug("region.areas_not_cleared")) continue;
    if (is_zero(from + at, now)) {
      m.flush_read(from + at, now); // [R3] drained with the next, or in lay_out()
      continue;
    }
    m.write(from + at, zeros, now); // [R3] no commit word: nothing there is valid before [R6]
    m.flush(from + at, now);        // [R3]
    m.drain();                      // [R3, in pieces] page by page, so that any class can bear it
  }
}

std::uint64_t* words(void* p) noexcept {
  return static_cast<std::uint64_t*>(p);
}

} // namespace

region::region() : super_(std::make_unique<superblock>()) {}
region::~region() = default;

// --- create -------------------------------------------------------------------------------------

result<std::unique_ptr<region>> region::create(const region_options& options) {
  // Refused before there is a file to take back.
  if (auto planned = plan(options, options.media.size); !planned) return planned.error();
  auto on = create_media(options.media);
  if (!on) return on.error();
  auto r = create_on(std::move(on).value(), options);
  std::error_code ignored;
  if (!r && std::filesystem::is_regular_file(options.media.path, ignored))
    std::filesystem::remove(options.media.path, ignored);
  return r;
}

result<std::unique_ptr<region>> region::create_on(std::unique_ptr<media> on,
                                                  const region_options& options) {
  auto planned = plan(options, on->size());
  if (!planned) return planned.error();
  std::unique_ptr<region> r(new region);
  r->media_ = std::move(on);
  media& m = *r->media_;
  for (const std::uint64_t offset : superblock_offsets)
    if (reinterpret_cast<const superblock*>(r->at(offset))->magic == region_magic)
      return error{errc::exists, "region " + m.path() +
                                     ": it holds a region already; open it, or clear its first " +
                                     std::to_string(areas_offset) + " bytes to give that up"};
  superblock& s = *r->super_;
  s.magic = region_magic;
  s.format_major = region_format_major;
  s.format_minor = region_format_minor;
  s.incarnation = 1;
  s.size = m.size();
  s.block_count = planned->block_count;
  s.state = static_cast<std::uint32_t>(region_state::open);
  std::random_device random;
  for (std::uint64_t& half : s.uuid)
    half = std::uint64_t{random()} << 32 | random();
  s.block_size = options.block_size;
  s.areas_offset = areas_offset;
  s.areas_size = planned->areas_size;
  s.area_count = static_cast<std::uint32_t>(planned->areas.size());
  s.root_capacity = root_directory_entries;
  s.block_offset = planned->block_offset;
  r->take_geometry();
  r->place_ = 1; // so that A is the first to be stored
  r->lay_out(planned->areas);
  hook_point("region.create.laid_out");
  if (!r->commit()) return r->write_failed();
  return r;
}

// Everything but the superblocks' first lines.
void region::lay_out(const std::vector<region_root>& areas) noexcept {
  media& m = *media_;
  clear(m, at(0), areas_offset + super_->areas_size);
  for (std::uint32_t i = 0; i < areas.size(); ++i)
    store_root(i, areas[i]);
  for (const std::uint64_t offset : superblock_offsets) {
    const std::uint64_t* from = words(super_.get());
    std::uint64_t* to = words(at(offset));
    for (std::size_t w = words_of_a_line; w < sizeof(superblock) / 8; ++w)
      m.store(&to[w], from[w]); // [R3]
  }
  if (!areas.empty()) m.flush(at(root_directory_offset), areas.size() * sizeof(root_entry)); // [R3]
  for (const std::uint64_t offset : superblock_offsets)
    m.flush(at(offset) + cacheline_size, sizeof(superblock) - cacheline_size); // [R3]
  if (!seeded_bug("region.superblock_before_layout")) m.drain();               // [R3 < R6]
  roots_ = areas;
  for (std::uint32_t i = root_directory_entries; i > areas.size(); --i)
    free_entries_.push_back(i - 1);
}

// --- open ---------------------------------------------------------------------------------------

result<std::unique_ptr<region>> region::open(const media_options& options) {
  media_options m = options;
  m.size = 0; // drivers take a size for a check of the file's
  auto on = open_media(m);
  if (!on) return on.error();
  // By default four times the size are reserved: to grow past that, it is opened once more.
  if (!options.read_only && options.size_max == 0 && options.size / 4 > (*on)->size()) {
    if (auto closed = (*on)->close(); !closed) return closed.error();
    on = error{}; // unmapped and unlocked
    m.size_max = options.size;
    on = open_media(m);
    if (!on) return on.error();
  }
  auto r = open_on(std::move(on).value(), options.read_only);
  if (!r || options.read_only) return r;
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
                                    " bytes, too few for a region: it is something else, or was "
                                    "truncated; restore the whole file"};
  std::array<superblock, 2> found; // copies: the medium is not to be trusted twice
  for (unsigned i = 0; i < found.size(); ++i)
    std::memcpy(&found[i], r->at(superblock_offsets[i]), sizeof found[i]);
  if (m.failed()) return r->write_failed();
  auto verdict = detail::choose(found, m.size(), read_only, name);
  if (verdict.refused) return *verdict.refused;
  r->place_ = verdict.place;
  *r->super_ = found[verdict.place];
  superblock& s = *r->super_;
  r->notes_ = std::move(verdict.notes);
  r->take_geometry();
  r->was_clean_ = s.state == static_cast<std::uint32_t>(region_state::clean);
  auto directory = detail::examine_directory(
      reinterpret_cast<const root_entry*>(r->at(root_directory_offset)), s);
  if (m.failed()) return r->write_failed();
  if (!directory.damage.empty() && !read_only)
    return error{errc::corrupt, name + directory.damage.front() +
                                    "; restore it from a copy, or open it read-only to save what "
                                    "is whole"};
  r->notes_.insert(r->notes_.end(), directory.damage.begin(), directory.damage.end());
  r->roots_ = std::move(directory.roots);
  r->free_entries_ = std::move(directory.free_entries);
  if (read_only) return r;

  m.flush_read(r->at(0), areas_offset);               // [R4]
  if (!seeded_bug("region.open_not_read")) m.drain(); // [R4 < R6]
  hook_point("region.open.read");
  ++s.incarnation;
  s.state = static_cast<std::uint32_t>(region_state::open);
  if (!r->commit()) return r->write_failed();
  return r;
}

void region::take_geometry() {
  geometry_ = {super_->size, super_->block_size, super_->block_offset, super_->block_count};
}

// --- the superblocks and the directory ----------------------------------------------------------

// Stores what super_ says over the superblock that does not count, then over the other. True once
// it is durable.
bool region::commit() noexcept {
  for (int copy = 0; copy < 2; ++copy) {
    ++super_->sequence;
    super_->crc = detail::crc_of(*super_);
    if (!seeded_bug("region.superblock_in_place")) place_ = 1 - place_;
    store_superblock(place_);
    hook_point("region.superblock.stored");
  }
  return media_->wait(media_->mark());
}

void region::store_superblock(unsigned place) noexcept {
  media& m = *media_;
  const std::uint64_t* from = words(super_.get());
  std::uint64_t* to = words(at(superblock_offsets[place]));
  constexpr std::size_t line = words_of_a_line;
  constexpr std::size_t fixed = sizeof(superblock) - cacheline_size;
  if (std::memcmp(to + line, from + line, fixed) != 0) { // damaged: made whole again
    for (std::size_t w = line; w < sizeof(superblock) / 8; ++w)
      m.store(&to[w], from[w]); // [R5]
    m.flush(to + line, fixed);  // [R5] without these the checksum fails, as it does already
  }
  if (!seeded_bug("region.magic_stays")) m.store(&to[0], 0); // [R5]
  for (std::size_t w = 1; w < line; ++w)
    m.store(&to[w], from[w]);       // [R5]
  m.store_release(&to[0], from[0]); // [R5 < R6]
  m.flush(to, cacheline_size);      // [R6]
  m.drain();                        // [R6 < R5]
}

// Flushed and drained by the caller.
void region::store_root(std::uint32_t entry, const region_root& root) noexcept {
  root_entry e{};
  e.state = static_cast<std::uint8_t>(root_state::present);
  e.kind = static_cast<std::uint8_t>(root.kind);
  e.version = root.version;
  e.offset = root.offset;
  e.size = root.size;
  std::memcpy(e.name, root.name.data(), root.name.size());
  e.crc = detail::crc_of(e);
  const std::uint64_t* from = words(&e);
  std::uint64_t* to = words(at(root_directory_offset + entry * sizeof e));
  const bool early = seeded_bug("region.root_commit_first");
  if (early) media_->store_release(&to[0], from[0]); // [R2]
  for (std::size_t w = 1; w < words_of_a_line; ++w)
    media_->store(&to[w], from[w]);                   // [R1]
  if (!early) media_->store_release(&to[0], from[0]); // [R1 < R2]
}

result<void> region::add_root(const region_root& given) {
  const std::string name = "region " + media_->path() + ": ";
  if (read_only_ || closed_)
    return error{errc::read_only, name + "add root: it is not open for writing"};
  region_root root = given;
  root.kind = root_kind::range;
  if (const std::string wrong = detail::examine_root(root, *super_, roots_); !wrong.empty())
    return error{errc::invalid_argument, name + "add root: it " + wrong};
  if (free_entries_.empty())
    return error{errc::no_space, name + "add root '" + root.name + "': all " +
                                     std::to_string(super_->root_capacity) +
                                     " entries of the root directory are taken"};
  const std::uint32_t entry = free_entries_.back();
  store_root(entry, root);
  media_->flush(at(root_directory_offset + entry * sizeof(root_entry)), sizeof(root_entry)); // [R2]
  if (!seeded_bug("region.root_not_drained")) media_->drain();                               // [R2]
  free_entries_.pop_back();
  roots_.push_back(std::move(root));
  if (!media_->wait(media_->mark())) return write_failed();
  return {};
}

namespace {

/// Name of the n-th range called `name`.
std::string range_name(std::string_view name, std::size_t n) {
  return n == 0 ? std::string(name) : std::string(name) + "#" + std::to_string(n);
}

} // namespace

std::vector<region_root> region::ranges(std::string_view name) const {
  std::vector<region_root> found;
  for (;;) {
    auto next = root(range_name(name, found.size()));
    if (!next) return found;
    found.push_back(std::move(next).value());
  }
}

result<region_root> region::add_range(std::string_view name, std::uint32_t version,
                                      std::uint64_t offset, std::uint64_t size) {
  region_root added{range_name(name, ranges(name).size()), offset, size, version, root_kind::range};
  if (auto done = add_root(added); !done) return done.error();
  return added;
}

// --- grow, close --------------------------------------------------------------------------------

result<void> region::grow(std::uint64_t size) {
  if (size <= geometry_.size) return {};
  if (read_only_ || closed_)
    return error{errc::read_only,
                 "region " + media_->path() + ": grow: it is not open for writing"};
  const bool early = seeded_bug("region.superblock_before_growth");
  // After a growth that was cut off the medium is longer than the region already.
  if (!early && size > media_->size()) // [R7 < R6]
    if (auto grown = media_->grow(size); !grown) return grown;
  hook_point("region.grow.medium_grown");
  super_->size = early ? size : media_->size();
  super_->block_count = (super_->size - super_->block_offset) / super_->block_size;
  if (!commit()) return write_failed();
  if (early)
    if (auto grown = media_->grow(size); !grown) return grown;
  take_geometry();
  return {};
}

result<void> region::close() {
  if (closed_) return {};
  closed_ = true;
  bool written = true;
  if (!read_only_) {
    super_->state = static_cast<std::uint32_t>(region_state::clean);
    written = !media_->failed() && commit();
  }
  const error failed = write_failed();
  auto closed = media_->close();
  return written ? closed : failed;
}

// --- what is known about it ---------------------------------------------------------------------

std::uint64_t region::incarnation() const noexcept {
  return super_->incarnation;
}

std::string region::uuid() const {
  const std::uint64_t* u = super_->uuid;
  char text[40];
  std::snprintf(text, sizeof text, "%08x-%04x-%04x-%04x-%012llx", static_cast<unsigned>(u[0] >> 32),
                static_cast<unsigned>(u[0] >> 16 & 0xffff), static_cast<unsigned>(u[0] & 0xffff),
                static_cast<unsigned>(u[1] >> 48),
                static_cast<unsigned long long>(u[1] & 0xffffffffffff));
  return text;
}

result<region_root> region::root(std::string_view name) const {
  for (const region_root& r : roots_)
    if (r.name == name) return r;
  return error{errc::not_found,
               "region " + media_->path() + ": it has no root '" + std::string(name) + "'"};
}

std::string region::object_at(std::uint64_t offset) const {
  if (offset < superblock_offsets[1]) return "superblock A";
  if (offset < root_directory_offset) return "superblock B";
  if (offset < areas_offset) return "the root directory";
  for (const region_root& r : roots_)
    if (offset >= r.offset && offset - r.offset < r.size) return "root '" + r.name + "'";
  if (geometry_.block_size != 0 && offset >= geometry_.block_offset)
    return "block " + std::to_string((offset - geometry_.block_offset) / geometry_.block_size);
  return "space that holds nothing";
}

std::string region::why_failed() const {
  const result<void> status = media_->status();
  if (status) return media_->failed() ? write_failed().message : std::string();
  const std::uint64_t lost = media_->lost_at();
  if (lost == UINT64_MAX) return status.error().message;
  return status.error().message + " (" + object_at(lost) + " lay there)";
}

std::string region::loss(std::uint64_t n) const {
  const std::uint64_t at = media_->lost_page(n);
  if (at == UINT64_MAX) return {};
  return "region file " + media_->path() + ": its memory at offset " + std::to_string(at) + " (" +
         object_at(at) +
         ") is gone: the file was cut short, or the memory is damaged; messages that lay in that "
         "page count as damaged and are not delivered, the rest is served; make the region anew, "
         "or restore it, when it suits";
}

error region::write_failed() const {
  if (auto status = media_->status(); !status) return {status.error().code, why_failed()};
  return {errc::io, "region " + media_->path() +
                        ": it could not be written, and nothing after that is durable; see to the "
                        "disk and open it again"};
}

} // namespace chainring
