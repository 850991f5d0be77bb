// SPDX-License-Identifier: BSD-3-Clause
// Creating, opening, growing and closing a region, and its root directory.
//
// Threads: every call but at() and the marks comes from one thread at a time. The commit words are
// stored with release only because the crash model asks for it.
//
// Ordering labels:
//   [root-words-first]  The words of a root entry are stored before its commit word, in program
//     order in one line.
//   [root-durable]  A root entry is drained before add_root() returns.
//   [layout-before-magic]  Areas, directory and the other lines of both superblocks are cleared or
//     written, and drained before a magic is stored.
//   [layout-in-pieces]  Cleared pages are drained one after the other, all before
//     [layout-before-magic].
//   [read-before-superblock]  What open() read is drained before it stores a superblock.
//   [magic-last]  The magic of a superblock is cleared first and stored last, all words before it
//     in program order in one line.
//   [superblock-before-other]  One superblock is drained before the other one is stored over.
//   [file-before-superblock]  The file has grown and is synced before a superblock says so.
#include "region/region.h"

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <random>

#include "base/hook.h"
#include "base/idle.h"
#include "media/line_copy.h"
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

/// Computes where everything lies in a region of `size` bytes.
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
      return error{errc::invalid_argument, "area '" + a.name + "': two areas have this name"};
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

/// Makes [from, from + n) zero and durable. These are whole lines that nothing names. Bytes that
/// are zero already need not be durably zero: a create() that died may have cleared them.
void clear(media& m, std::byte* from, std::uint64_t n) noexcept {
  static const std::byte zeros[4096]{};
  for (std::uint64_t at = 0; at < n; at += sizeof zeros) {
    const std::uint64_t now = std::min<std::uint64_t>(sizeof zeros, n - at);
    if (seeded_bug("region.areas_not_cleared")) continue;
    if (is_zero(from + at, now)) {
      m.flush_read(from + at, now); // [layout-before-magic]
      continue;
    }
    m.write(from + at, zeros, now); // [layout-before-magic]
    m.flush(from + at, now);        // [layout-before-magic]
    // [layout-in-pieces] Crash between: neither superblock has a magic, so there is no region. The
    // drain covers one page, so that every class can bear it.
    m.drain();
  }
}

std::uint64_t* words(void* p) noexcept {
  return static_cast<std::uint64_t*>(p);
}

} // namespace

region::region() : super_(std::make_unique<superblock>()) {}
region::~region() = default;

// --- create -------------------------------------------------------------------------------------

std::uint64_t region::bytes_for(std::span<const area_spec> areas, std::uint32_t block_size,
                                std::uint64_t block_bytes) noexcept {
  std::uint64_t bytes = areas_offset;
  for (const area_spec& a : areas)
    bytes += align_up(a.size, cacheline_size);
  return align_up(align_up(bytes, 4096) + align_up(block_bytes, block_size), 4096);
}

result<std::unique_ptr<region>> region::create(const region_options& options) {
  // Refuse wrong options before there is a file that would have to be removed again.
  if (auto planned = plan(options, options.media.size); !planned) return planned.error();
  auto backing = create_media(options.media);
  if (!backing) return backing.error();
  auto r = create_on(std::move(backing).value(), options);
  std::error_code ignored;
  if (!r && std::filesystem::is_regular_file(options.media.path, ignored))
    std::filesystem::remove(options.media.path, ignored);
  return r;
}

result<std::unique_ptr<region>> region::create_on(std::unique_ptr<media> backing,
                                                  const region_options& options) {
  auto planned = plan(options, backing->size());
  if (!planned) return planned.error();
  std::unique_ptr<region> r(new region);
  r->media_ = std::move(backing);
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
  s.state = static_cast<std::uint32_t>(options.unfinished && !seeded_bug("region.unfinished_opens")
                                           ? region_state::unfinished
                                           : region_state::open);
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
  r->place_ = 1; // so that A is stored first
  r->lay_out(planned->areas);
  hook_point("region.create.laid_out");
  if (!r->commit()) return r->write_failed();
  return r;
}

// Writes everything but the first lines of the superblocks.
void region::lay_out(const std::vector<region_root>& areas) noexcept {
  media& m = *media_;
  clear(m, at(0), areas_offset + super_->areas_size);
  for (std::uint32_t i = 0; i < areas.size(); ++i)
    store_root(i, areas[i]);
  for (const std::uint64_t offset : superblock_offsets) {
    const std::uint64_t* from = words(super_.get());
    std::uint64_t* to = words(at(offset));
    for (std::size_t w = words_of_a_line; w < sizeof(superblock) / 8; ++w)
      m.store(&to[w], from[w]); // [layout-before-magic]
  }
  // [layout-before-magic]
  if (!areas.empty()) m.flush(at(root_directory_offset), areas.size() * sizeof(root_entry));
  for (const std::uint64_t offset : superblock_offsets)
    // [layout-before-magic]
    m.flush(at(offset) + cacheline_size, sizeof(superblock) - cacheline_size);
  // [layout-before-magic] Crash between: neither superblock has a magic, so there is no region.
  if (!seeded_bug("region.superblock_before_layout")) m.drain();
  roots_ = areas;
  for (std::uint32_t i = root_directory_entries; i > areas.size(); --i)
    free_entries_.push_back(i - 1);
}

// --- open ---------------------------------------------------------------------------------------

result<std::unique_ptr<region>> region::open(const media_options& options) {
  media_options m = options;
  m.size = 0; // drivers would check the file's size against it
  auto backing = open_media(m);
  if (!backing) return backing.error();
  // Four times the size are reserved by default. To grow further, the medium is opened once more.
  if (!options.read_only && options.size_max == 0 && options.size / 4 > (*backing)->size()) {
    if (auto closed = (*backing)->close(); !closed) return closed.error();
    backing = error{}; // the first mapping is unmapped and unlocked
    m.size_max = options.size;
    backing = open_media(m);
    if (!backing) return backing.error();
  }
  auto r = open_on(std::move(backing).value(), options.read_only);
  if (!r || options.read_only) return r;
  if (auto grown = (*r)->grow(options.size); !grown) return grown.error();
  return r;
}

result<std::unique_ptr<region>> region::begin_open(std::unique_ptr<media> backing, bool read_only) {
  std::unique_ptr<region> r(new region);
  r->media_ = std::move(backing);
  r->read_only_ = read_only;
  const media& m = *r->media_;
  if (m.size() < areas_offset)
    return error{errc::corrupt, "region " + m.path() + ": it has " + std::to_string(m.size()) +
                                    " bytes, too few for a region: it is something else, or was "
                                    "truncated; restore the whole file"};
  return r;
}

result<std::unique_ptr<region>> region::open_on(std::unique_ptr<media> backing, bool read_only) {
  auto begun = begin_open(std::move(backing), read_only);
  if (!begun) return begun;
  std::unique_ptr<region> r = std::move(begun).value();
  media& m = *r->media_;
  if (auto fine = r->read_superblocks(); !fine) return fine.error();
  const std::vector<std::string> damage = r->read_directory();
  if (m.failed()) return r->write_failed();
  if (!damage.empty() && !read_only)
    return error{errc::corrupt, "region " + m.path() + ": " + damage.front() +
                                    "; restore it from a copy, or open it read-only to save what "
                                    "is whole"};
  r->note(damage);
  if (read_only) return r;

  superblock& s = *r->super_;
  m.flush_read(r->at(0), areas_offset); // [read-before-superblock]
  // [read-before-superblock] Without it a power cut could lose the newer superblock, visible and
  // not durable, while the older one is being stored over; or a root that was served could vanish.
  if (!seeded_bug("region.open_not_read")) m.drain();
  hook_point("region.open.read");
  ++s.incarnation;
  s.state = static_cast<std::uint32_t>(region_state::open);
  if (!r->commit()) return r->write_failed();
  return r;
}

// Reads copies, because the medium may change under a second look.
result<void> region::read_superblocks() {
  std::array<superblock, 2> found;
  for (unsigned i = 0; i < found.size(); ++i)
    copy_lines(&found[i], at(superblock_offsets[i]), sizeof found[i]);
  if (media_->failed()) return write_failed();
  auto verdict =
      detail::choose(found, media_->size(), read_only_, "region " + media_->path() + ": ");
  if (verdict.refused) return *verdict.refused;
  place_ = verdict.place;
  *super_ = found[verdict.place];
  notes_ = std::move(verdict.notes);
  take_geometry();
  was_clean_ = super_->state == static_cast<std::uint32_t>(region_state::clean);
  return {};
}

// Takes the roots that are whole, and returns what is wrong with the others.
std::vector<std::string> region::read_directory() {
  std::array<root_entry, root_directory_entries> entries;
  copy_lines(entries.data(), at(root_directory_offset), sizeof entries);
  auto directory = detail::examine_directory(entries.data(), *super_);
  roots_ = std::move(directory.roots);
  free_entries_ = std::move(directory.free_entries);
  return std::move(directory.damage);
}

void region::note(const std::vector<std::string>& damage) {
  notes_.insert(notes_.end(), damage.begin(), damage.end());
}

result<std::unique_ptr<region>> region::attach(const media_options& options) {
  media_options m = options;
  m.size = 0; // drivers would check the file's size against it
  m.read_only = m.beside_owner = true;
  // An owner that makes the region longer may do it between the mapping and the reading.
  constexpr int attempts_max = 4;
  for (int attempt = 1;; ++attempt) {
    auto backing = open_media(m);
    if (!backing) return backing.error();
    auto r = attach_on(std::move(backing).value());
    if (r || attempt == attempts_max) return r;
  }
}

result<std::unique_ptr<region>> region::attach_on(std::unique_ptr<media> backing) {
  auto r = begin_open(std::move(backing), true);
  if (!r) return r;
  (*r)->attached_ = true;
  // An owner stores one line of the superblocks and of the directory after the other, so what looks
  // damaged may be whole a moment later.
  constexpr int attempts_max = 16;
  idle_policy wait;
  for (int attempt = 1;; ++attempt, wait.idle()) {
    auto fine = (*r)->read_superblocks();
    if (fine) (*r)->note((*r)->read_directory());
    if ((*r)->medium().failed()) return (*r)->write_failed();
    if (fine && ((*r)->notes_.empty() || attempt == attempts_max)) return r;
    if (attempt == attempts_max) return fine.error();
  }
}

void region::take_geometry() {
  geometry_ = {super_->size, super_->block_size, super_->block_offset, super_->block_count};
}

// --- the superblocks and the directory ----------------------------------------------------------

// Stores super_ over the superblock that does not count, then over the other one. Returns true once
// both are durable.
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
  if (std::memcmp(to + line, from + line, fixed) != 0) { // it is damaged, so make it whole again
    for (std::size_t w = line; w < sizeof(superblock) / 8; ++w)
      m.store(&to[w], from[w]); // [magic-last]
    m.flush(to + line, fixed);  // [magic-last]
  }
  // [magic-last] Crash between: this superblock has no magic, and the other one counts.
  if (!seeded_bug("region.magic_stays")) m.store(&to[0], 0);
  for (std::size_t w = 1; w < line; ++w)
    m.store(&to[w], from[w]);       // [magic-last]
  m.store_release(&to[0], from[0]); // [magic-last]
  m.flush(to, cacheline_size);      // [superblock-before-other]
  // [superblock-before-other] Without it a power cut could leave neither of them valid.
  m.drain();
}

// Stores a root entry, which the caller flushes and drains.
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
  if (early) media_->store_release(&to[0], from[0]); // [root-words-first]
  for (std::size_t w = 1; w < words_of_a_line; ++w)
    // [root-words-first] Crash between: the entry is free.
    media_->store(&to[w], from[w]);
  if (!early) media_->store_release(&to[0], from[0]); // [root-words-first]
}

result<void> region::add_root(const region_root& given) {
  const std::string name = "region " + media_->path() + ": ";
  if (read_only_ || closed_)
    return error{errc::read_only,
                 name + "add root: it is not open for writing; open it again, without read_only"};
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
  // [root-durable]
  media_->flush(at(root_directory_offset + entry * sizeof(root_entry)), sizeof(root_entry));
  // [root-durable] Without it the caller could use a range that a power cut makes free again.
  if (!seeded_bug("region.root_not_drained")) media_->drain();
  free_entries_.pop_back();
  roots_.push_back(std::move(root));
  if (!media_->wait(media_->mark())) return write_failed();
  return {};
}

namespace {

/// The name of the n-th range called `name`.
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
    return error{errc::read_only, "region " + media_->path() +
                                      ": grow: it is not open for writing; open it again, "
                                      "without read_only"};
  const bool early = seeded_bug("region.superblock_before_growth");
  // A growth that was interrupted has left the medium longer than the region.
  // [file-before-superblock] Crash between: the medium is longer than the region, and the next
  // grow() uses it.
  if (!early && size > media_->size())
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

// --- inspection ---------------------------------------------------------------------------------

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
               "region " + media_->path() + ": it has no root '" + std::string(name) +
                   "'; call add_root() first, or name it among the areas of create()"};
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
         "page count as damaged and are not delivered, the rest is served; create the "
         "region again or restore it at a suitable time";
}

error region::write_failed() const {
  if (auto status = media_->status(); !status) return {status.error().code, why_failed()};
  return {errc::io, "region " + media_->path() +
                        ": it could not be written, and nothing after that is durable; see to the "
                        "disk and open it again"};
}

} // namespace chainring
