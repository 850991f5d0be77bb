// SPDX-License-Identifier: BSD-3-Clause
#include "access/scram.h"

#include <algorithm>
#include <openssl/crypto.h>
#include <openssl/rand.h>
#include <span>

#include "access/secrets.h"

namespace chainring::access {

namespace {

std::span<const unsigned char> octets_of(std::string_view text) {
  return {reinterpret_cast<const unsigned char*>(text.data()), text.size()};
}

/// Takes the attribute `name=` and its value from the front of the text, with the comma behind it.
std::optional<std::string_view> take(std::string_view& text, char name) {
  if (text.size() < 2 || text[0] != name || text[1] != '=') return {};
  const std::size_t end = std::min(text.find(','), text.size());
  const std::string_view value = text.substr(2, end - 2);
  text.remove_prefix(std::min(end + 1, text.size()));
  return value;
}

/// A name in which a comma stands as =2C and an equals sign as =3D.
std::optional<std::string> name_of(std::string_view text) {
  std::string name;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '=') {
      name += text[i];
    } else if (text.substr(i, 3) == "=2C" || text.substr(i, 3) == "=3D") {
      name += text[i + 1] == '2' ? ',' : '=';
      i += 2;
    } else {
      return {};
    }
  }
  if (name.empty() || name.size() > user_name_size_max) return {};
  return name;
}

bool valid_nonce(std::string_view text) {
  return !text.empty() &&
         std::ranges::all_of(text, [](char c) { return c >= 0x21 && c <= 0x7e && c != ','; });
}

} // namespace

std::optional<std::string>
scram_exchange::first(std::string_view message, const password_file& file, std::string_view nonce) {
  *this = {};
  // "y" says that the client could bind a channel and believes that the server cannot, as it is.
  if (message.size() > scram_message_max ||
      !(message.starts_with("n,") || message.starts_with("y,")))
    return {};
  std::string_view left = message.substr(2);
  std::string_view other; // the identity that the client wants to have
  if (left.starts_with(',')) {
    left.remove_prefix(1);
  } else {
    const auto given = take(left, 'a');
    if (!given) return {};
    other = *given;
  }
  const std::string_view bare = left;
  binding_ = to_base64(octets_of(message.substr(0, message.size() - bare.size())));
  const auto user = take(left, 'n'); // "m=" would come first, and asks for what nobody knows
  const auto mine = user ? take(left, 'r') : std::nullopt;
  if (!mine || !valid_nonce(*mine)) return {};
  const auto name = name_of(*user);
  if (!name || (!other.empty() && other != *user)) return {};
  std::array<unsigned char, 18> drawn{};
  if (nonce.empty() && RAND_bytes(drawn.data(), static_cast<int>(drawn.size())) != 1) return {};
  const auto keys = file.scram_of(*name);
  if (!keys) return {};
  user_ = *name;
  nonce_ = std::string(*mine) + (nonce.empty() ? to_base64(drawn) : std::string(nonce));
  keys_ = keys->stored_and_server_key;
  const std::string answer = "r=" + nonce_ + ",s=" + to_base64(octets_of(keys->salt)) +
                             ",i=" + std::to_string(keys->rounds);
  text_ = std::string(bare) + "," + answer + ",";
  begun_ = true;
  return answer;
}

std::optional<std::string> scram_exchange::last(std::string_view message) {
  if (!std::exchange(begun_, false) || message.size() > scram_message_max) return {};
  std::string_view left = message;
  const auto binding = take(left, 'c');
  const auto nonce = binding ? take(left, 'r') : std::nullopt;
  if (!nonce || *binding != binding_ || *nonce != nonce_) return {};
  const std::size_t at = message.rfind(",p=");
  if (at == std::string_view::npos) return {};
  const auto proof = from_base64(message.substr(at + 3));
  if (!proof || proof->size() != sizeof(sha256_value)) return {};
  text_ += message.substr(0, at);
  const std::span<const unsigned char> stored(keys_.data(), 32), server(keys_.data() + 32, 32);
  const auto signature = hmac(stored, text_), verifier = hmac(server, text_);
  if (!signature || !verifier) return {};
  sha256_value client_key{};
  for (std::size_t i = 0; i < client_key.size(); ++i)
    client_key[i] =
        static_cast<unsigned char>((*signature)[i] ^ static_cast<unsigned char>((*proof)[i]));
  const auto shown = sha256(client_key);
  if (!shown || CRYPTO_memcmp(shown->data(), stored.data(), shown->size()) != 0) return {};
  return "v=" + to_base64(*verifier);
}

} // namespace chainring::access
