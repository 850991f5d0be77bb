// SPDX-License-Identifier: BSD-3-Clause
/// What the fuzz targets share: a reader of inputs, the start of EAL, and expectations whose
/// failure the fuzzer notices.
#pragma once
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <span>
#include <string>
#include <string_view>

namespace chainring::fuzz {

/// Reads an input from front to back. Behind its end it returns zeros.
class input {
 public:
  input(const std::uint8_t* data, std::size_t size) : left_(data, size) {}
  [[nodiscard]] bool empty() const { return left_.empty(); }
  std::uint8_t octet() { return static_cast<std::uint8_t>(number(1)); }
  std::uint64_t number(unsigned octets) {
    std::uint64_t n = 0;
    for (unsigned i = 0; i < octets; ++i) {
      n = n << 8 | (left_.empty() ? 0u : left_[0]);
      if (!left_.empty()) left_ = left_.subspan(1);
    }
    return n;
  }
  std::span<const std::uint8_t> take(std::size_t n) {
    const auto part = left_.first(n < left_.size() ? n : left_.size());
    left_ = left_.subspan(part.size());
    return part;
  }
  std::span<const std::uint8_t> rest() { return take(left_.size()); }

 private:
  std::span<const std::uint8_t> left_;
};

/// Ends the run where an expectation fails that no sanitizer checks. `what` says what was found.
inline void expect(bool good, std::string_view what) {
  if (good) return;
  std::fprintf(stderr, "\nwrong: %.*s\n", static_cast<int>(what.size()), what.data());
  std::abort();
}

/// A file with the input as its content, which can be opened by its path.
class memory_file {
 public:
  explicit memory_file(std::span<const std::uint8_t> content);
  ~memory_file();
  memory_file(const memory_file&) = delete;
  memory_file& operator=(const memory_file&) = delete;
  [[nodiscard]] const std::string& path() const { return path_; }

 private:
  int fd_;
  std::string path_;
};

/// Starts EAL in memory, without devices. From then on a failure of gtest's EXPECT ends the run.
/// Called once.
void start_eal();

} // namespace chainring::fuzz

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size);
