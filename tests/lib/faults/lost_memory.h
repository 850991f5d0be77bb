// SPDX-License-Identifier: BSD-3-Clause
/// Regions whose memory is lost while programs use them.
#pragma once
#include <atomic>
#include <sys/mman.h>
#include <unistd.h>

#include "../broker/broker_fixture.h"
#include "../media/scratch.h"

namespace chainring::test_faults {

using namespace chainring::testing_broker;
using test::scratch_directory;

constexpr std::uint64_t page = 4096, region_size = 1u << 20;

struct place {
  const char* name;
  std::string directory;
  const char* driver;
  bool emulated;
};
inline void PrintTo(const place& p, std::ostream* out) {
  *out << p.name;
}

/// A region in a file of a place.
class OnAPlace : public testing::TestWithParam<place> {
 protected:
  OnAPlace() : directory_(GetParam().directory) {
    options_.media.path = directory_.file("region");
    options_.media.size = region_size;
    options_.media.driver = GetParam().driver;
    if (GetParam().emulated) options_.media.durability = durability_class::emulated;
    options_.areas = broker::areas(small_layout(), region_size, 256);
  }
  std::unique_ptr<region> made() {
    auto r = region::create(options_);
    if (!r) throw std::runtime_error(r.error().message);
    return std::move(*r);
  }
  std::unique_ptr<region> opened() {
    auto r = region::open(options_.media);
    if (!r) throw std::runtime_error(r.error().message);
    return std::move(*r);
  }
  void cut(std::uint64_t bytes) {
    ASSERT_EQ(truncate(options_.media.path.c_str(), static_cast<off_t>(bytes)), 0);
  }
  void expect_named(region& r, const std::string& object) {
    EXPECT_TRUE(r.failed());
    const std::string why = r.why_failed();
    EXPECT_NE(why.find(options_.media.path), std::string::npos) << why;
    EXPECT_NE(why.find(object), std::string::npos) << why;
  }
  scratch_directory directory_;
  region_options options_;
};

/// Takes the page at `offset` away, like a poisoned page: a thread that touches it gets SIGBUS. The
/// file keeps its content.
inline void poison(media& m, std::uint64_t offset) {
  static const int empty = memfd_create("empty", MFD_CLOEXEC);
  ASSERT_NE(mmap(m.base() + offset / page * page, page, PROT_READ | PROT_WRITE,
                 MAP_FIXED | MAP_SHARED, empty, 0),
            MAP_FAILED);
}

/// A transport that counts the packets which its mark allows to leave.
class marked_transport final : public net::transport {
 public:
  explicit marked_transport(region& r) : on_(r) {}
  std::span<std::byte> begin(client_address, std::size_t size) noexcept override {
    room_.resize(size);
    return room_;
  }
  void commit(std::size_t) noexcept override { ++made_; }
  void release(mark_t mark) noexcept override {
    if (on_.durable(mark)) sent += made_;
    made_ = 0;
  }
  std::atomic<unsigned> sent = 0;

 private:
  region& on_;
  bytes room_;
  unsigned made_ = 0;
};

inline auto places() {
  return testing::Values(place{"tmpfs", "/dev/shm", "hugetlb", false},
                         place{"disk", test::disk_directory(), "hugetlb", true});
}
inline std::string place_name(const testing::TestParamInfo<place>& info) {
  return info.param.name;
}

} // namespace chainring::test_faults
