// SPDX-License-Identifier: BSD-3-Clause
#include "access/password_file.h"

#include <algorithm>
#include <charconv>
#include <fstream>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/rand.h>
#include <optional>
#include <utility>
#include <vector>

#include "access/access.h"
#include "access/secrets.h"
#include "base/escape.h"
#include "topic/topic.h"

namespace chainring::access {

namespace {

constexpr std::size_t salt_size_min = 8, salt_size_max = 64, salt_size_made = 16;

error refuse(const std::string& why) {
  return error{errc::invalid_argument, why};
}

bool derive(std::span<const std::byte> password, std::string_view salt, std::uint32_t rounds,
            bool scram, std::array<unsigned char, 64>& out) {
  if (scram) {
    const auto keys = scram_keys_of(password, salt, rounds);
    if (keys) out = *keys;
    return keys.has_value();
  }
  return PKCS5_PBKDF2_HMAC(
             reinterpret_cast<const char*>(password.data()), static_cast<int>(password.size()),
             reinterpret_cast<const unsigned char*>(salt.data()), static_cast<int>(salt.size()),
             static_cast<int>(rounds), EVP_sha512(), static_cast<int>(out.size()), out.data()) == 1;
}

result<void> check_name(std::string_view user) {
  if (user.empty() || user.size() > user_name_size_max)
    return refuse("the user name has " + std::to_string(user.size()) + " octets; expected 1 to " +
                  std::to_string(user_name_size_max));
  if (!valid_utf8(user) || user.find_first_of(":\r\n") != std::string_view::npos)
    return refuse("the user name '" + escape(user) +
                  "' is not text in UTF-8 without a colon and without an end of line");
  return {};
}

} // namespace

std::string_view user_of_line(std::string_view line) noexcept {
  if (line.starts_with('#')) return {};
  return line.substr(0, std::min(line.find(':'), line.size()));
}

struct password_file::reader {
  password_file& out;
  bool has_scram = false;

  // Reads what stands behind the user name.
  static result<void> read_hash(std::string_view text, entry& e) {
    constexpr std::string_view pbkdf2 = "$7$", scram = "SCRAM-SHA-256$";
    e.scram = text.starts_with(scram);
    if (!e.scram && !text.starts_with(pbkdf2))
      return refuse("the hash begins neither with $7$ (PBKDF2 with SHA-512) nor with "
                    "SCRAM-SHA-256$; make it again with dpdk-chainring-passwd");
    std::string_view rest = text.substr(e.scram ? scram.size() : pbkdf2.size());
    // $7$ROUNDS$SALT$HASH, or SCRAM-SHA-256$ROUNDS:SALT$KEY:KEY
    const std::string_view between = e.scram ? ":$:" : "$$";
    std::vector<std::string_view> parts;
    for (const char mark : between) {
      const std::size_t end = rest.find(mark);
      if (end == std::string_view::npos)
        return refuse(e.scram
                          ? "the hash is not whole; expected SCRAM-SHA-256$ROUNDS:SALT$STOREDKEY:"
                            "SERVERKEY"
                          : "the hash is not whole; expected $7$ROUNDS$SALT$HASH");
      parts.push_back(rest.substr(0, end));
      rest.remove_prefix(end + 1);
    }
    parts.push_back(rest);
    const auto [end, status] =
        std::from_chars(parts[0].data(), parts[0].data() + parts[0].size(), e.rounds);
    if (status != std::errc{} || end != parts[0].data() + parts[0].size() || e.rounds == 0 ||
        e.rounds > rounds_max)
      return refuse("the number of rounds must be 1 to " + std::to_string(rounds_max));
    const auto salt = from_base64(parts[1]);
    if (!salt || salt->size() < salt_size_min || salt->size() > salt_size_max)
      return refuse("the salt is not 8 to 64 octets in Base64");
    e.salt = *salt;
    const std::size_t keys = parts.size() - 2, size = e.hash.size() / keys;
    for (std::size_t i = 0; i < keys; ++i) {
      const auto key = from_base64(parts[2 + i]);
      if (!key || key->size() != size)
        return refuse((e.scram ? "a key" : "the hash") + std::string(" is not ") +
                      std::to_string(size) + " octets in Base64");
      std::copy(key->begin(), key->end(), e.hash.begin() + static_cast<std::ptrdiff_t>(i * size));
    }
    return {};
  }

  result<void> read(std::string_view line) {
    if (line.ends_with('\r')) line.remove_suffix(1);
    if (line.empty() || line.starts_with('#')) return {};
    if (line.size() > line_size_max)
      return refuse("the line has " + std::to_string(line.size()) + " octets; expected at most " +
                    std::to_string(line_size_max));
    if (line.find(':') == std::string_view::npos)
      return refuse("expected a user name, a colon and a hash that dpdk-chainring-passwd or "
                    "mosquitto_passwd has written");
    const std::string_view user = user_of_line(line);
    if (auto good = check_name(user); !good) return good;
    if (out.users_.size() == users_max)
      return refuse("there are more than " + std::to_string(users_max) + " users");
    entry e;
    if (auto read = read_hash(line.substr(user.size() + 1), e); !read)
      return refuse("user '" + escape(user) + "': " + read.error().message);
    if (out.users_.empty()) {
      out.decoy_ = e;
      out.decoy_.hash = {};
    }
    if (e.scram && !std::exchange(has_scram, true)) out.scram_rounds_ = e.rounds;
    if (!out.users_.emplace(user, std::move(e)).second)
      return refuse("the user '" + escape(user) + "' is given twice");
    return {};
  }
};

result<std::shared_ptr<const password_file>> password_file::parse(std::string_view text,
                                                                  const std::string& name) {
  auto made = std::make_shared<password_file>();
  made->decoy_.salt.assign(salt_size_made, 's');
  reader r{*made};
  std::uint32_t number = 0;
  while (!text.empty()) {
    const std::size_t end = std::min(text.find('\n'), text.size());
    ++number;
    if (auto read = r.read(text.substr(0, end)); !read)
      return error{read.error().code,
                   name + ":" + std::to_string(number) + ": " + read.error().message};
    text.remove_prefix(std::min(end + 1, text.size()));
  }
  return std::shared_ptr<const password_file>(std::move(made));
}

result<std::shared_ptr<const password_file>> password_file::read(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  if (!in) return error{errc::not_found, path + ": the file cannot be read"};
  std::string text;
  for (std::array<char, 65536> part; in.read(part.data(), part.size()) || in.gcount() != 0;)
    text.append(part.data(), static_cast<std::size_t>(in.gcount()));
  if (in.bad()) return error{errc::io, path + ": the file cannot be read to its end"};
  return parse(text, path);
}

bool password_file::agrees_with(const password_file& other, const std::string& user) const {
  const auto mine = users_.find(user), theirs = other.users_.find(user);
  return mine != users_.end() && theirs != other.users_.end() && mine->second == theirs->second;
}

bool password_file::matches(std::string_view user, std::span<const std::byte> password) const {
  const auto found = users_.find(std::string(user));
  const entry& e = found == users_.end() ? decoy_ : found->second;
  std::array<unsigned char, 64> made{};
  if (!derive(password, e.salt, e.rounds, e.scram, made)) return false;
  const bool same = CRYPTO_memcmp(made.data(), e.hash.data(), made.size()) == 0;
  return same && found != users_.end();
}

std::optional<password_file::scram_keys> password_file::scram_of(const std::string& user) const {
  const auto found = users_.find(user);
  if (found != users_.end() && found->second.scram)
    return scram_keys{found->second.rounds, found->second.salt, found->second.hash};
  // Whoever asks twice, or after a new file was read, is given the same salt.
  static const auto secret = [] {
    std::array<unsigned char, 32> drawn{};
    return RAND_bytes(drawn.data(), static_cast<int>(drawn.size())) == 1 ? std::optional(drawn)
                                                                         : std::nullopt;
  }();
  scram_keys made;
  made.rounds = scram_rounds_;
  const auto salt = secret ? hmac(*secret, user) : std::nullopt;
  if (!salt || RAND_bytes(made.stored_and_server_key.data(),
                          static_cast<int>(made.stored_and_server_key.size())) != 1)
    return {};
  made.salt.assign(salt->begin(), salt->begin() + salt_size_made);
  return made;
}

result<std::string> make_password_line(std::string_view user, std::string_view password,
                                       std::uint32_t rounds, password_kind kind) {
  if (auto good = check_name(user); !good) return good.error();
  if (user.starts_with('#')) return refuse("a line that begins with # would be a comment");
  if (password.empty()) return refuse("the password is empty");
  if (rounds == 0 || rounds > rounds_max)
    return refuse("rounds " + std::to_string(rounds) + ": expected 1 to " +
                  std::to_string(rounds_max));
  std::array<unsigned char, salt_size_made> salt{};
  std::array<unsigned char, 64> hash{};
  const std::string_view text(reinterpret_cast<const char*>(salt.data()), salt.size());
  const bool scram = kind == password_kind::scram_sha256;
  if (RAND_bytes(salt.data(), static_cast<int>(salt.size())) != 1 ||
      !derive(std::as_bytes(std::span(password)), text, rounds, scram, hash))
    return error{errc::unsupported, "OpenSSL gives no random numbers, or no PBKDF2"};
  const std::span<const unsigned char> keys(hash);
  if (!scram)
    return std::string(user) + ":$7$" + std::to_string(rounds) + "$" + to_base64(salt) + "$" +
           to_base64(keys);
  return std::string(user) + ":SCRAM-SHA-256$" + std::to_string(rounds) + ":" + to_base64(salt) +
         "$" + to_base64(keys.first(32)) + ":" + to_base64(keys.subspan(32));
}

} // namespace chainring::access
