// SPDX-License-Identifier: BSD-3-Clause
// What makes, finds and enlarges the objects of a region.
//
// Ordering labels:
//   [object-written]  A range is cleared, its header is written, and both are drained before the
//     root that names the range is committed.
//   [object-named]  The root is durable before the object uses its range.
#include "objects/objects.h"

#include <algorithm>
#include <cstring>
#include <sys/stat.h>

#include "base/crc32c.h"
#include "base/hook.h"
#include "objects/objects_media.h"
#include "region/recovery.h"

namespace chainring {

namespace {

constexpr std::size_t name_max = 24; // leaves room for the number of a range behind it
/// Room beside the objects: for runs that do not lie side by side, and for some growth.
constexpr std::uint64_t slack_bytes = 64u << 10;
/// How many times as many blocks as at the open there may be. How far the region itself grows,
/// media_options::size_max says.
constexpr std::uint64_t growth_max = 1024;
/// The addresses that are taken for a region, where the program does not say how many.
constexpr std::uint64_t growth_default = 16, size_max_least = 256u << 20;

std::uint32_t check_of(object_header h) noexcept {
  h.check = 0;
  return crc32c(0, &h, sizeof h);
}

object_header header_for(const named_object& o) noexcept {
  object_header h{object_magic, o.version(), 0, {}};
  std::memcpy(h.type, o.type().data(), o.type().size());
  h.check = check_of(h);
  return h;
}

std::string quoted(std::string_view name) {
  return "object '" + std::string(name) + "'";
}

object_header header_of(region& r, const region_root& root) noexcept {
  object_header h{};
  if (root.size >= sizeof h) std::memcpy(&h, r.at(root.offset), sizeof h);
  return h;
}
std::string_view type_in(const object_header& h) noexcept {
  return {h.type, strnlen(h.type, sizeof h.type)};
}
const char* const not_an_object = "the range of that name does not begin with the header of an "
                                  "object; it was made by other means, or is damaged";

} // namespace

result<void> objects::acceptable(const wanted& of) {
  for (std::size_t i = 0; i < of.size(); ++i) {
    const named_object& o = *of[i];
    if (o.name().empty() || o.name().size() > name_max)
      return error{errc::invalid_argument, quoted(o.name()) + ": a name has 1 to " +
                                               std::to_string(name_max) + " characters"};
    if (o.name().find('#') != std::string::npos)
      return error{errc::invalid_argument,
                   quoted(o.name()) + ": a name has no '#', because ranges that are added to an "
                                      "object have its name and a number behind one"};
    if (o.entries() == 0)
      return error{errc::invalid_argument,
                   quoted(o.name()) + ": expected room for at least one entry"};
    if (o.type().size() > object_type_max)
      return error{errc::invalid_argument, quoted(o.name()) + ": its type, '" + o.type() +
                                               "', has more than " +
                                               std::to_string(object_type_max) + " characters"};
    if (auto fine = o.acceptable(); !fine)
      return error{fine.error().code, quoted(o.name()) + ": " + fine.error().message};
    for (std::size_t j = 0; j < i; ++j)
      if (of[j]->name() == o.name())
        return error{errc::invalid_argument,
                     quoted(o.name()) + ": it is named twice; each object has a name of its own"};
  }
  return {};
}

named_object::~named_object() = default;

std::string detail::bytes_in_words(std::size_t bytes) {
  return bytes == 0 ? "string" : std::to_string(bytes) + (bytes == 1 ? " byte" : " bytes");
}

objects::objects() = default;
// Objects give blocks back, so they go before the block store.
objects::~objects() {
  objects_.clear();
}

std::uint64_t objects::size_for(const wanted& of, std::uint32_t block_size) {
  std::uint64_t bytes = slack_bytes;
  for (const auto& o : of)
    bytes += align_up(sizeof(object_header) + o->range_bytes(o->entries()), block_size) +
             o->content_blocks(o->entries(), block_size) * block_size;
  return region::bytes_for({}, block_size, bytes);
}

result<std::unique_ptr<objects>> objects::open_or_create(region_options options, wanted of) {
  if (auto fine = acceptable(of); !fine) return fine.error();
  struct stat there {};
  const bool exists = stat(options.media.path.c_str(), &there) == 0;
  if (!exists && options.media.size == 0) options.media.size = size_for(of, options.block_size);
  if (options.media.size_max == 0 && (!exists || S_ISREG(there.st_mode))) {
    const std::uint64_t now = std::max<std::uint64_t>(
        options.media.size, exists ? static_cast<std::uint64_t>(there.st_size) : 0);
    options.media.size_max = std::max(growth_default * now, size_max_least);
  }
  auto opened = exists ? region::open(options.media) : region::create(options);
  if (!opened) return opened.error();
  return open(std::move(opened).value(), std::move(of));
}

result<std::unique_ptr<objects>> objects::open(std::unique_ptr<class region> in, wanted of) {
  if (auto fine = acceptable(of); !fine) return fine.error();
  if (in->read_only())
    return error{errc::read_only, "objects: the region is open for reading only, and a recovery "
                                  "would write; open it for writing"};
  std::unique_ptr<objects> all(new objects);
  all->region_ = std::move(in);
  all->objects_ = std::move(of);
  all->made_.resize(all->objects_.size());
  const region_geometry& g = all->region_->geometry();
  const std::uint64_t most = std::min(g.block_count * growth_max, block_store::blocks_max);
  auto blocks =
      block_store::create(all->region_->medium(), g.block_offset, g.block_size, g.block_count,
                          {.block_count_max = static_cast<std::uint32_t>(most)});
  if (!blocks) return blocks.error();
  all->blocks_ = std::move(blocks).value();
  if (auto done = all->open_those_there(); !done) return done.error();
  if (auto done = all->add_missing(); !done) return done.error();
  for (const auto& o : all->objects_)
    if (o->missing() != 0)
      if (auto done = all->grow(*o, o->missing()); !done) return done.error();
  return all;
}

result<void> objects::check_header(const named_object& o, const region_root& root) const {
  const object_header h = header_of(*region_, root);
  if (h.magic != object_magic || h.check != check_of(h))
    return error{errc::corrupt, quoted(o.name()) + ": " + not_an_object};
  if (type_in(h) != o.type())
    return error{errc::invalid_argument, quoted(o.name()) + ": the region has it as a '" +
                                             std::string(type_in(h)) +
                                             "', and the program asks for a '" + o.type() + "'"};
  if (h.version != o.version())
    return error{errc::version, quoted(o.name()) + ": the region has it in version " +
                                    std::to_string(h.version) + ", and the program asks for " +
                                    std::to_string(o.version())};
  return {};
}

std::vector<named_object::range> objects::ranges_of(class region& in, std::string_view name) {
  std::vector<named_object::range> ranges;
  for (const region_root& root : in.ranges(name)) {
    const std::uint64_t header = ranges.empty() ? sizeof(object_header) : 0;
    ranges.push_back({root.offset + header, root.size - header});
  }
  return ranges;
}

// Adds the parts that keep the blocks of all ranges, also of those of no object.
void objects::add_ranges(chainring::recovery& all, class region& in, block_store& blocks) {
  all.add(blocks.part());
  all.add(
      {.name = "ranges", .items = in.roots().size(), .repair = [&in, &blocks](recovery_context& c) {
         for (const region_root& root : in.roots()) {
           c.advance();
           if (root.kind != root_kind::range) continue;
           auto live = blocks.recover_run(root.offset,
                                          static_cast<std::uint32_t>(blocks.blocks_for(root.size)));
           if (!live) c.report({"root '" + root.name + "'", live.error().message, severity::fatal});
         }
       }});
}

void objects::add_parts(chainring::recovery& all, const wanted& of, const std::vector<bool>& made) {
  for (const bool late : {false, true})
    for (std::size_t i = 0; i < of.size(); ++i)
      if (made[i] && of[i]->recovers_late() == late)
        for (recovery_part& part : of[i]->parts())
          all.add(std::move(part));
}

// Makes and recovers the objects that the region has.
result<void> objects::open_those_there() {
  chainring::recovery all;
  add_ranges(all, *region_, *blocks_);
  for (std::size_t i = 0; i < objects_.size(); ++i) {
    named_object& o = *objects_[i];
    const auto root = region_->root(o.name());
    if (!root) continue;
    if (auto fine = check_header(o, *root); !fine) return fine.error();
    if (auto made = o.make(region_->medium(), *blocks_, ranges_of(*region_, o.name()), false);
        !made)
      return error{made.error().code, quoted(o.name()) + ": " + made.error().message};
    made_[i] = true;
  }
  add_parts(all, objects_, made_);
  auto report = all.run(*region_);
  if (!report) return report.error();
  recovered_ = std::move(report).value();
  return {};
}

recovery_report objects::check(class region& in) {
  recovery_report report;
  const region_geometry& g = in.geometry();
  auto blocks = block_store::create(in.medium(), g.block_offset, g.block_size, g.block_count);
  if (!blocks) {
    report.problems.push_back({"blocks", blocks.error().message, severity::fatal});
    ++report.fatal;
    return report;
  }
  std::vector<problem> found;
  wanted all;
  for (const region_root& root : in.roots()) {
    if (root.kind != root_kind::range || root.name.find('#') != std::string::npos) continue;
    const object_header h = header_of(in, root);
    if (h.magic != object_magic) {
      found.push_back({"root '" + root.name + "'", not_an_object, severity::note});
    } else if (h.check != check_of(h)) {
      found.push_back({quoted(root.name), "the check of its header fails; it is not opened"});
    } else if (auto o = detail::object_in_words(root.name, type_in(h), h.version); o == nullptr) {
      found.push_back({quoted(root.name),
                       "this build does not know its type, '" + std::string(type_in(h)) + "'",
                       severity::note});
    } else if (auto made = o->make(in.medium(), **blocks, ranges_of(in, root.name), false); !made) {
      found.push_back({quoted(root.name), made.error().message});
    } else {
      all.push_back(std::move(o));
    }
  }
  chainring::recovery parts;
  add_ranges(parts, in, **blocks);
  parts.add({.name = "headers of objects", .validate = [&](recovery_context& c) {
               for (problem& p : found)
                 c.report(std::move(p));
               c.advance();
             }});
  add_parts(parts, all, std::vector<bool>(all.size(), true));
  report = parts.check(in);
  all.clear(); // objects go before the block store
  return report;
}

result<void> objects::add_missing() {
  for (std::size_t i = 0; i < objects_.size(); ++i) {
    if (made_[i]) continue;
    named_object& o = *objects_[i];
    auto root = add_range(o, sizeof(object_header) + o.range_bytes(o.entries()), true);
    if (!root) return root.error();
    const named_object::range whole{root->offset + sizeof(object_header),
                                    root->size - sizeof(object_header)};
    if (auto made = o.make(region_->medium(), *blocks_, {&whole, 1}, true); !made)
      return error{made.error().code, quoted(o.name()) + ": " + made.error().message};
    made_[i] = true;
  }
  return {};
}

// Makes the region larger by so many blocks.
result<void> objects::add_blocks(const named_object& o, std::uint64_t blocks) {
  const region_geometry& g = region_->geometry();
  auto grown = region_->grow(g.size + blocks * g.block_size + slack_bytes);
  if (grown) grown = blocks_->extend(region_->geometry().block_count);
  if (grown) return {};
  return error{errc::no_space, quoted(o.name()) + ": the region has no room for " +
                                   std::to_string(blocks * g.block_size) +
                                   " bytes more, and it cannot grow: " + grown.error().message};
}

// Takes a run of blocks, clears it and names it.
result<region_root> objects::add_range(const named_object& o, std::uint64_t bytes,
                                       bool with_header) {
  static constexpr std::byte zeros[1024]{};
  const std::uint64_t blocks = blocks_->blocks_for(bytes);
  const auto take = [&]() -> std::optional<std::uint64_t> {
    if (blocks > blocks_->block_count()) return std::nullopt;
    return blocks_->reserve_run(static_cast<std::uint32_t>(blocks));
  };
  std::optional<std::uint64_t> offset = take();
  if (!offset) {
    if (auto grown = add_blocks(o, blocks); !grown) return grown.error();
    offset = take();
    if (!offset)
      return error{errc::no_space, quoted(o.name()) + ": " + std::to_string(bytes) +
                                       " bytes of the region do not lie side by side"};
  }
  media& m = region_->medium();
  std::byte* at = region_->at(*offset);
  for (std::uint64_t done = 0; done < bytes; done += sizeof zeros)
    m.write(at + done, zeros, std::min<std::uint64_t>(bytes - done, sizeof zeros));
  if (with_header) {
    const object_header h = header_for(o);
    m.write(at, &h, sizeof h);
  }
  // [object-written] Without it a crash could leave an object whose entries are what the blocks
  // held before. Crash between: the blocks are free.
  if (!seeded_bug("objects.range_not_drained")) persist_range(m, at, bytes); // [object-written]
  hook_point("objects.cleared");
  // [object-named] Crash between: the next open has the object with nothing in the range.
  auto named = region_->add_range(o.name(), o.version(), *offset, bytes);
  if (!named) blocks_->release_run(*offset, static_cast<std::uint32_t>(blocks));
  hook_point("objects.named");
  return named;
}

namespace {
error closed(std::string_view name) {
  return {errc::not_found, quoted(name) + ": the objects are closed; call open_or_create() again"};
}
} // namespace

result<void> objects::grow(std::string_view name, std::uint64_t entries) {
  if (blocks_ == nullptr) return closed(name);
  for (const auto& o : objects_) {
    if (o->name() != name) continue;
    if (o->grows_in_use()) return grow(*o, entries);
    return error{errc::unsupported,
                 quoted(name) + ": a '" + o->type() +
                     "' has the room that open_or_create() is asked for; ask for "
                     "more entries there"};
  }
  return error{errc::not_found,
               quoted(name) +
                   ": it was not among the objects that open_or_create() was asked for, which "
                   "are " +
                   names()};
}

// Everything that can be refused is asked before the range is named, because a range stays.
result<void> objects::grow(named_object& o, std::uint64_t entries) {
  const auto ranges = ranges_of(*region_, o.name());
  if (ranges.size() >= ranges_max)
    return error{errc::no_space, quoted(o.name()) + ": it has " + std::to_string(ranges_max) +
                                     " ranges, the most that an object can have; copy its entries "
                                     "into a larger one"};
  if (entries > o.room_max() - o.room())
    return error{errc::invalid_argument,
                 quoted(o.name()) + ": room for " + std::to_string(entries) +
                     " entries more: expected at most " + std::to_string(o.room_max() - o.room()) +
                     "; the next open allows more"};
  const std::uint64_t doubled = std::min(o.room(), o.room_max() - o.room()),
                      more = std::max(entries, doubled),
                      contents = o.content_blocks(entries, blocks_->block_size()),
                      range = blocks_->blocks_for(o.range_bytes(more)),
                      free = blocks_->statistics().free_blocks;
  if (contents + range > free)
    if (auto grown = add_blocks(o, contents + range - free); !grown) return grown.error();
  auto root = add_range(o, o.range_bytes(more), false);
  if (!root) return root.error();
  return o.add({root->offset, root->size});
}

std::string objects::names() const {
  std::string all;
  for (const auto& o : objects_)
    all += (all.empty() ? "'" : ", '") + o->name() + "'";
  return all.empty() ? "none" : all;
}

result<named_object*> objects::find(std::string_view name, bool (*is)(std::string_view),
                                    const std::string& type) const {
  if (blocks_ == nullptr) return closed(name);
  for (const auto& o : objects_) {
    if (o->name() != name) continue;
    if (is(o->type())) return o.get();
    return error{errc::invalid_argument, quoted(name) + ": it was opened as a '" + o->type() +
                                             "', and get() asks for a '" + type + "'"};
  }
  return error{errc::not_found,
               quoted(name) +
                   ": it was not among the objects that open_or_create() was asked "
                   "for, which are " +
                   names()};
}

std::vector<message_table*> objects::message_tables() const {
  std::vector<message_table*> tables;
  for (const auto& o : objects_)
    if (message_table* t = o->messages()) tables.push_back(t);
  return tables;
}

result<void> objects::close() {
  for (std::size_t i = 0; i < objects_.size(); ++i)
    if (made_[i]) objects_[i]->settle();
  objects_.clear();
  blocks_.reset();
  return region_->close();
}

} // namespace chainring
