// SPDX-License-Identifier: BSD-3-Clause
#include "access/secrets.h"

#include <algorithm>
#include <openssl/evp.h>
#include <openssl/hmac.h>

namespace chainring::access {

std::optional<std::string> from_base64(std::string_view text) {
  if (text.empty() || text.size() % 4 != 0) return {};
  std::string out(text.size() / 4 * 3, '\0');
  const int n = EVP_DecodeBlock(reinterpret_cast<unsigned char*>(out.data()),
                                reinterpret_cast<const unsigned char*>(text.data()),
                                static_cast<int>(text.size()));
  if (n < 0) return {};
  const std::size_t padding = text.ends_with("==") ? 2 : text.ends_with('=') ? 1 : 0;
  out.resize(static_cast<std::size_t>(n) - padding);
  return out;
}

std::string to_base64(std::span<const unsigned char> octets) {
  std::string out((octets.size() + 2) / 3 * 4 + 1, '\0');
  const int n = EVP_EncodeBlock(reinterpret_cast<unsigned char*>(out.data()), octets.data(),
                                static_cast<int>(octets.size()));
  out.resize(static_cast<std::size_t>(n));
  return out;
}

std::optional<sha256_value> hmac(std::span<const unsigned char> key, std::string_view text) {
  sha256_value out{};
  unsigned size = out.size();
  if (HMAC(EVP_sha256(), key.data(), static_cast<int>(key.size()),
           reinterpret_cast<const unsigned char*>(text.data()), text.size(), out.data(),
           &size) == nullptr)
    return {};
  return out;
}

std::optional<sha256_value> sha256(std::span<const unsigned char> octets) {
  sha256_value out{};
  unsigned size = out.size();
  if (EVP_Digest(octets.data(), octets.size(), out.data(), &size, EVP_sha256(), nullptr) != 1)
    return {};
  return out;
}

std::optional<std::array<unsigned char, 64>>
scram_keys_of(std::span<const std::byte> password, std::string_view salt, std::uint32_t rounds) {
  sha256_value salted{};
  if (PKCS5_PBKDF2_HMAC(reinterpret_cast<const char*>(password.data()),
                        static_cast<int>(password.size()),
                        reinterpret_cast<const unsigned char*>(salt.data()),
                        static_cast<int>(salt.size()), static_cast<int>(rounds), EVP_sha256(),
                        static_cast<int>(salted.size()), salted.data()) != 1)
    return {};
  const auto client_key = hmac(salted, "Client Key"), server_key = hmac(salted, "Server Key");
  if (!client_key || !server_key) return {};
  const auto stored_key = sha256(*client_key);
  if (!stored_key) return {};
  std::array<unsigned char, 64> out{};
  std::ranges::copy(*stored_key, out.begin());
  std::ranges::copy(*server_key, out.begin() + stored_key->size());
  return out;
}

} // namespace chainring::access
