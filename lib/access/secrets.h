// SPDX-License-Identifier: BSD-3-Clause
/// Base64, hashes and keys by OpenSSL, as password files and SCRAM need them. Not installed.
#pragma once
#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>

namespace chainring::access {

using sha256_value = std::array<unsigned char, 32>;

/// Decodes Base64 with its padding. Nothing where the text is empty or is none.
[[nodiscard]] std::optional<std::string> from_base64(std::string_view text);
[[nodiscard]] std::string to_base64(std::span<const unsigned char> octets);
/// HMAC with SHA-256 (RFC 2104). Nothing where OpenSSL has none.
[[nodiscard]] std::optional<sha256_value> hmac(std::span<const unsigned char> key,
                                               std::string_view text);
[[nodiscard]] std::optional<sha256_value> sha256(std::span<const unsigned char> octets);
/// StoredKey and ServerKey of a password (RFC 5802, section 3), one behind the other. It takes as
/// long as the number of rounds says.
[[nodiscard]] std::optional<std::array<unsigned char, 64>>
scram_keys_of(std::span<const std::byte> password, std::string_view salt, std::uint32_t rounds);

} // namespace chainring::access
