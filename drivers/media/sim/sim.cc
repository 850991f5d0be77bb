// SPDX-License-Identifier: BSD-3-Clause
#include "sim.h"

#include <algorithm>
#include <cstring>

#include "sim_life.h"

namespace chainring {

namespace {

constexpr const char* prefix = "sim:";

struct known_disk {
  std::weak_ptr<sim_disk> disk;
  std::shared_ptr<sim_disk> keep; ///< set where the driver made it: it stays, as a file would
};

std::mutex registry_lock;
std::map<std::string, known_disk>& registry() {
  static std::map<std::string, known_disk> disks;
  return disks;
}

std::shared_ptr<sim_disk> find_disk(const std::string& path) {
  const std::lock_guard guard(registry_lock);
  auto at = registry().find(path);
  return at == registry().end() ? nullptr : at->second.disk.lock();
}

} // namespace

std::shared_ptr<sim_disk> sim_disk::create(std::uint64_t size, std::uint64_t size_max,
                                           std::string name) {
  static std::uint64_t unnamed = 0;
  size = align_up(std::max<std::uint64_t>(size, 1), 4096);
  size_max = size_max == 0 ? 4 * size : align_up(std::max(size, size_max), 4096);
  std::shared_ptr<sim_disk> disk(new sim_disk);
  const std::lock_guard guard(registry_lock);
  if (name.empty()) name = "unnamed-" + std::to_string(++unnamed);
  known_disk& known = registry()[prefix + name];
  if (!known.disk.expired()) return nullptr;
  disk->store_ = std::make_unique<detail::sim_store>(size, size_max, prefix + name);
  known.disk = disk;
  return disk;
}

sim_disk::~sim_disk() {
  if (store_ == nullptr) return;
  const std::lock_guard guard(registry_lock);
  auto at = registry().find(store_->path);
  if (at != registry().end() && at->second.disk.expired()) registry().erase(at);
}

std::unique_ptr<sim_media> sim_disk::boot(bool recorded) {
  auto life = std::make_shared<detail::sim_life>(shared_from_this(), recorded, false);
  store_->current = life;
  return std::make_unique<sim_media>(std::move(life), false, true);
}

std::span<std::byte> sim_disk::bytes() noexcept {
  return {store_->shared, store_->size};
}
std::uint64_t sim_disk::size() const noexcept {
  return store_->size;
}
std::uint64_t sim_disk::size_max() const noexcept {
  return store_->size_max;
}
void sim_disk::limit_drains(std::uint64_t bytes) noexcept {
  store_->drain_bytes_max = bytes;
}
void sim_disk::resize(std::uint64_t size) noexcept {
  CHAINRING_ASSERT(size % 4096 == 0 && size <= store_->size_max);
  store_->size = size;
}
const std::string& sim_disk::path() const noexcept {
  return store_->path;
}

std::unique_ptr<sim_media> sim_media::create(std::uint64_t size, std::uint64_t size_max) {
  return sim_disk::create(size, size_max)->boot();
}

std::unique_ptr<sim_media> sim_media::from_image(std::span<const std::byte> image,
                                                 std::uint64_t size_max) {
  auto disk = sim_disk::create(image.size(), size_max);
  std::memcpy(disk->bytes().data(), image.data(), image.size());
  return disk->boot();
}

sim_media::sim_media(std::shared_ptr<detail::sim_life> life, bool read_only, bool owner)
    : life_(std::move(life)), read_only_(read_only), owner_(owner) {
  base_ = life_->base;
  size_ = life_->size;
  path_ = life_->store.path;
  class_ = durability_class::emulated;
  kind_ = kind::visible;
  const std::lock_guard guard(life_->lock);
  life_->handles.push_back(this);
  set_observer(life_->recorded ? life_.get() : life_->user);
}

sim_media::~sim_media() {
  static_cast<void>(close());
}

result<void> sim_media::close() {
  if (closed_) return {};
  closed_ = true;
  set_observer(nullptr);
  const std::lock_guard guard(life_->lock);
  std::erase(life_->handles, this);
  if (!owner_) --(read_only_ ? life_->readers : life_->writers);
  return {};
}

mark_t sim_media::mark() noexcept {
  return life_->mark();
}
bool sim_media::durable(mark_t mark) noexcept {
  return life_->durable(mark);
}
std::uint64_t sim_media::drain_bytes_max() const noexcept {
  return life_->store.drain_bytes_max;
}
void sim_media::hold_marks(site s) {
  life_->hold_marks(s);
}
void sim_media::reach_mark(mark_t mark, site s) {
  life_->reach_marks(mark, true, s);
}
void sim_media::reach_every_mark(site s) {
  life_->reach_marks(~mark_t{0}, false, s);
}

result<void> sim_media::grow(std::uint64_t size) {
  if (read_only_) return error{errc::read_only, "grow: " + path() + " is open for reading only"};
  if (auto grown = life_->grow(size); !grown) return grown;
  const std::lock_guard guard(life_->lock);
  for (sim_media* handle : life_->handles)
    handle->size_ = life_->size;
  return {};
}

void sim_media::observe(persist_observer* observer) noexcept {
  life_->user = observer;
  if (life_->recorded) return;
  for (sim_media* handle : life_->handles)
    handle->set_observer(observer);
}

void sim_media::declare_scratch(const void* from, std::size_t n) noexcept {
  life_->scratch(from, n, true);
}
void sim_media::retract_scratch(const void* from, std::size_t n) noexcept {
  life_->scratch(from, n, false);
}

const std::shared_ptr<sim_disk>& sim_media::disk() const noexcept {
  return life_->disk;
}
const sim_trace& sim_media::trace() const noexcept {
  return life_->trace;
}
sim_trace sim_media::take_trace() noexcept {
  return std::exchange(life_->trace, {});
}
void sim_media::note(std::uint64_t value, site s) noexcept {
  life_->note(value, s);
}
void sim_media::settle() noexcept {
  life_->settle();
}
void sim_media::poke(std::uint64_t offset, const void* from, std::size_t n) noexcept {
  life_->poke(offset, from, n);
}
const std::vector<std::string>& sim_media::violations() const noexcept {
  return life_->violations;
}
unsigned sim_media::joined() const noexcept {
  return life_->writers + life_->readers;
}

bool sim_forget(const std::string& path) {
  std::shared_ptr<sim_disk> last; // dropped after the lock, which its destructor takes
  const std::lock_guard guard(registry_lock);
  auto at = registry().find(path);
  if (at == registry().end()) return false;
  last = std::move(at->second.keep);
  registry().erase(at);
  return true;
}

namespace {

result<std::unique_ptr<media>> open_sim(const media_options& options) {
  auto disk = find_disk(options.path);
  if (disk == nullptr)
    return error{errc::not_found, "region " + options.path + ": no such simulated disk"};
  return sim_join(disk, options.read_only);
}

result<std::unique_ptr<media>> create_sim(const media_options& options) {
  if (options.size == 0)
    return error{errc::invalid_argument, "size of " + options.path + ": expected at least 1 byte"};
  if (!options.path.starts_with(prefix))
    return error{errc::invalid_argument, "region path " + options.path + ": expected sim:NAME"};
  auto disk =
      sim_disk::create(options.size, options.size_max, options.path.substr(std::strlen(prefix)));
  if (disk == nullptr) return error{errc::exists, "region " + options.path + ": it exists already"};
  {
    const std::lock_guard guard(registry_lock);
    registry()[options.path].keep = disk;
  }
  return sim_join(disk, false);
}

constexpr durability_class given[] = {durability_class::emulated};

} // namespace

result<std::unique_ptr<media>> sim_join(const std::shared_ptr<sim_disk>& disk, bool read_only) {
  auto& store = *disk->store_;
  auto life = store.current.lock();
  if (life == nullptr) {
    life = std::make_shared<detail::sim_life>(disk, true, true);
    store.current = life;
  }
  {
    const std::lock_guard guard(life->lock);
    if (life->writers > 0 || (!read_only && life->readers > 0))
      return error{errc::busy, "region " + store.path + ": it is open already"};
    ++(read_only ? life->readers : life->writers);
  }
  return std::unique_ptr<media>(std::make_unique<sim_media>(std::move(life), read_only, false));
}

const media_driver sim_driver = {
    "sim",      "memory that records every seam call, for crash tests (sim:NAME)",
    given,      [](const std::string& path) { return path.starts_with(prefix); },
    create_sim, open_sim};

namespace {
// Whatever links this finds its disks by path. Runs before main(); the built-in drivers are
// constants by then.
[[maybe_unused]] const bool registered = (add_media_driver(sim_driver), true);
} // namespace

} // namespace chainring
