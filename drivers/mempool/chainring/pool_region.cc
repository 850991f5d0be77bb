// SPDX-License-Identifier: BSD-3-Clause
#include "mempool/chainring/pool_region.h"

#include <algorithm>
#include <array>
#include <new>
#include <sys/stat.h>
#include <utility>

#include "base/cacheline.h"
#include "media/media.h"
#include "media/size_text.h"

namespace chainring::mempool {
namespace {

/// The area by which a region of the driver is known. It holds nothing.
constexpr const char* own_area = "mempool";

error wrong(const std::string& setting, const std::string& what) {
  return {errc::invalid_argument,
          "CHAINRING_MEMPOOL_REGION is '" + setting + "': " + what +
              ". Give PATH,SIZE such as /dev/hugepages/pools,512M; PATH of a region that exists; "
              "or ,SIZE for memory without a file"};
}

struct parsed {
  std::string path;
  std::uint64_t size = 0; ///< 0: not given
};

result<parsed> parse(const std::string& setting) {
  const std::size_t comma = setting.rfind(',');
  parsed p{.path = setting.substr(0, comma)};
  if (comma == std::string::npos) return p;
  auto size = parse_size(setting.substr(comma + 1));
  if (!size) return wrong(setting, "the size behind the comma is " + size.error().message);
  if (*size == 0) return wrong(setting, "the size behind the comma is 0");
  p.size = *size;
  return p;
}

result<std::unique_ptr<region>> in_memory(const region_options& o, std::uint64_t size) {
  std::unique_ptr<media> memory;
  try {
    memory = memory_media(size, durability_class::process);
  } catch (const std::bad_alloc&) {
    return error{errc::no_space, "CHAINRING_MEMPOOL_REGION: the system does not give " +
                                     size_name(size) +
                                     " of memory for a region of pools; give a smaller size"};
  }
  return region::create_on(std::move(memory), o);
}

result<std::unique_ptr<region>> in_file(const std::string& setting, region_options o) {
  struct stat there {};
  if (stat(o.media.path.c_str(), &there) != 0) {
    if (o.media.size == 0)
      return wrong(setting, "there is no such file, and without a size none is made");
    return region::create(o);
  }
  // A region of somebody else's is not even marked as opened.
  media_options to_look = o.media;
  to_look.read_only = true;
  to_look.size = 0;
  auto found = region::open(to_look);
  if (!found) return found;
  for (const region_root& root : (*found)->roots())
    if (root.name != own_area)
      return error{errc::exists, o.media.path + ": the region holds '" + root.name +
                                     "', which pools would overwrite; the mempool driver needs a "
                                     "region of its own: give another path"};
  if ((*found)->roots().empty())
    return error{errc::exists, o.media.path + ": the region was not made by the mempool driver, "
                                              "which needs one of its own: give another path"};
  found.value().reset();
  return region::open(o.media);
}

} // namespace

result<std::unique_ptr<pool_region>> pool_region::open(const std::string& setting) {
  auto p = parse(setting);
  if (!p) return p.error();
  region_options o;
  o.media.path = p->path;
  o.media.size = p->size;
  o.block_size = block_size;
  o.areas = {{own_area, cacheline_size, 1}};
  auto r = p->path.empty() ? in_memory(o, p->size == 0 ? memory_size : p->size)
                           : in_file(setting, std::move(o));
  if (!r) return r.error();
  const region_geometry& g = (*r)->geometry();
  auto blocks =
      block_store::create((*r)->medium(), g.block_offset, g.block_size, g.block_count, {});
  if (!blocks) return blocks.error();
  return std::unique_ptr<pool_region>(
      new pool_region(std::move(r).value(), std::move(blocks).value()));
}

pool_region::~pool_region() {
  blocks_.reset();
  // Nothing of the region is durable, so a failed close loses nothing.
  (void)region_->close();
}

result<std::unique_ptr<pool_places>> pool_places::take(pool_region& from, std::uint32_t count,
                                                       std::size_t bytes,
                                                       const place_check& usable) {
  std::unique_ptr<pool_places> places(new pool_places(from.blocks()));
  if (places->fill(count, bytes, usable)) return places;
  places.reset();
  const block_store_statistics s = from.blocks().statistics();
  return error{errc::no_space, "region " + from.path() + " has no places for the pool's " +
                                   std::to_string(count) + " objects of " + std::to_string(bytes) +
                                   " bytes each; " + std::to_string(s.free_blocks * s.block_size) +
                                   " bytes are free. Give CHAINRING_MEMPOOL_REGION a larger size" +
                                   (usable ? ", hugepages, or start with --iova-mode=va" : "")};
}

bool pool_places::fill(std::uint32_t count, std::size_t bytes, const place_check& usable) {
  while (starts_.size() < count) {
    const std::uint64_t wanted =
        std::min<std::uint64_t>(blocks_.blocks_for((count - starts_.size()) * bytes), UINT32_MAX);
    std::array<chain, 64> got;
    const unsigned n = blocks_.allocate(static_cast<std::uint32_t>(wanted), got);
    if (n == 0) return false;
    chains_.insert(chains_.end(), got.begin(), got.begin() + n);
    const std::size_t before = starts_.size();
    for (unsigned i = 0; i < n; ++i) {
      std::byte* at = blocks_.address(got[i]);
      std::byte* const end = at + blocks_.size_of(got[i]);
      blocks_.medium().declare_scratch(at, blocks_.size_of(got[i]));
      while (starts_.size() < count && static_cast<std::size_t>(end - at) >= bytes) {
        if (!usable || usable(at, bytes)) {
          starts_.push_back(at);
          at += bytes;
        } else {
          const auto address = reinterpret_cast<std::uintptr_t>(at);
          at += pool_region::block_size - address % pool_region::block_size;
          if (at > end) break;
        }
      }
    }
    if (starts_.size() == before) return false;
  }
  return true;
}

pool_places::~pool_places() {
  for (const chain& c : chains_)
    blocks_.medium().retract_scratch(blocks_.address(c), blocks_.size_of(c));
  blocks_.release(chains_);
}

} // namespace chainring::mempool
