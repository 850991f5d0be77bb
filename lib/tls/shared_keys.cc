// SPDX-License-Identifier: BSD-3-Clause
#include "tls/shared_keys.h"

#include <algorithm>
#include <array>
#include <cstdint>
#include <fstream>
#include <iterator>
#include <openssl/crypto.h>
#include <optional>
#include <utility>

#include "base/escape.h"

namespace chainring::tls {

namespace {

error refuse(const std::string& why) {
  return error{errc::invalid_argument, why};
}

/// The octets of a text in hexadecimal, or nothing.
std::optional<shared_keys::key> from_hex(std::string_view text) {
  const auto digit = [](char c) {
    if (c >= '0' && c <= '9') return c - '0';
    if (c >= 'a' && c <= 'f') return c - 'a' + 10;
    if (c >= 'A' && c <= 'F') return c - 'A' + 10;
    return -1;
  };
  if (text.size() % 2 != 0) return {};
  shared_keys::key out;
  out.reserve(text.size() / 2);
  for (std::size_t at = 0; at < text.size(); at += 2) {
    const int high = digit(text[at]), low = digit(text[at + 1]);
    if (high < 0 || low < 0) return {};
    out.push_back(static_cast<unsigned char>(high * 16 + low));
  }
  return out;
}

/// What is wrong with a line, which is no comment. An error never shows the key.
result<std::pair<std::string, shared_keys::key>> read_line(std::string_view line) {
  const std::size_t colon = line.find(':');
  if (colon == std::string_view::npos)
    return refuse("expected an identity, a colon and a key in hexadecimal");
  const std::string_view identity = line.substr(0, colon);
  if (identity.empty() || identity.size() > identity_size_max)
    return refuse("the identity has " + std::to_string(identity.size()) +
                  " octets; expected 1 to " + std::to_string(identity_size_max));
  if (std::ranges::any_of(identity, [](unsigned char c) { return c < 0x20 || c == 0x7f; }))
    return refuse("the identity '" + escape(identity) + "' has a control character");
  auto key = from_hex(line.substr(colon + 1));
  const std::string whose = "the key of '" + escape(identity) + "' ";
  if (!key) return refuse(whose + "is not made of pairs of the digits 0 to 9 and a to f");
  if (key->size() < key_size_min || key->size() > key_size_max)
    return refuse(whose + "has " + std::to_string(key->size()) + " octets; expected " +
                  std::to_string(key_size_min) + " to " + std::to_string(key_size_max) +
                  ", such as `openssl rand -hex 32` draws");
  return std::pair{std::string(identity), std::move(*key)};
}

} // namespace

result<std::shared_ptr<const shared_keys>> shared_keys::parse(std::string_view text,
                                                              const std::string& name) {
  auto made = std::make_shared<shared_keys>();
  std::uint32_t number = 0;
  while (!text.empty()) {
    const std::size_t end = std::min(text.find('\n'), text.size());
    std::string_view line = text.substr(0, end);
    text.remove_prefix(std::min(end + 1, text.size()));
    ++number;
    const auto refuse_line = [&](const std::string& why) {
      return refuse(name + ":" + std::to_string(number) + ": " + why);
    };
    if (line.ends_with('\r')) line.remove_suffix(1);
    if (line.empty() || line.starts_with('#')) continue;
    if (made->keys_.size() == shared_keys_max)
      return refuse_line("there are more than " + std::to_string(shared_keys_max) + " keys");
    auto one = read_line(line);
    if (!one) return refuse_line(one.error().message);
    const std::string identity = one->first;
    if (!made->keys_.emplace(std::move(*one)).second)
      return refuse_line("the identity '" + escape(identity) + "' is given twice");
  }
  return std::shared_ptr<const shared_keys>(std::move(made));
}

result<std::shared_ptr<const shared_keys>> shared_keys::read(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  if (!in) return error{errc::not_found, path + ": the file cannot be read"};
  std::string text((std::istreambuf_iterator<char>(in)), {});
  auto made =
      in.bad() ? error{errc::io, path + ": the file cannot be read to its end"} : parse(text, path);
  OPENSSL_cleanse(text.data(), text.size());
  return made;
}

const shared_keys::key* shared_keys::find(std::string_view identity) const {
  if (identity.size() > identity_size_max) return nullptr; // such as a ticket of TLS 1.3
  const auto at = keys_.find(std::string(identity));
  return at == keys_.end() ? nullptr : &at->second;
}

} // namespace chainring::tls
