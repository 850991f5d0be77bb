// SPDX-License-Identifier: BSD-3-Clause
/// Keys that clients share with the server in advance (PSK, RFC 4279 and RFC 8446), as a text file.
///
///     # a comment
///     sensor-7:8f1c0a5be2d4479f8f1c0a5be2d4479f
///
/// A line has the identity of a client, a colon and its key in hexadecimal, as the files of
/// mosquitto have. `openssl rand -hex 32` draws a key. A key has at least 16 octets: whoever
/// records a handshake could find a shorter one by trying all of them.
///
/// Thread-safety: a table is constant, so any thread may use it.
#pragma once
#include <cstddef>
#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "../base/error.h"

namespace chainring::tls {

inline constexpr std::size_t key_size_min = 16, key_size_max = 64; ///< octets
inline constexpr std::size_t identity_size_max = 128; ///< octets, as RFC 4279, 5.3 asks
inline constexpr std::size_t shared_keys_max = 1'000'000;

class shared_keys {
 public:
  using key = std::vector<unsigned char>;

  /// Reads a file. errc::invalid_argument names the file, the line and what is wrong;
  /// errc::not_found and errc::io say that the file cannot be read.
  [[nodiscard]] static result<std::shared_ptr<const shared_keys>> read(const std::string& path);
  /// Does the same with a text; `name` stands for the file in errors.
  [[nodiscard]] static result<std::shared_ptr<const shared_keys>> parse(std::string_view text,
                                                                        const std::string& name);
  /// The key of an identity, or nullptr.
  [[nodiscard]] const key* find(std::string_view identity) const;
  [[nodiscard]] std::size_t size() const noexcept { return keys_.size(); }

 private:
  std::unordered_map<std::string, key> keys_;
};

} // namespace chainring::tls
