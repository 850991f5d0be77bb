// SPDX-License-Identifier: BSD-3-Clause
/// User names with hashes of their passwords, as a text file.
///
///     # a comment
///     sensor-7:$7$20000$<salt>$<hash>
///     sensor-8:SCRAM-SHA-256$20000:<salt>$<StoredKey>:<ServerKey>
///
/// The first kind of entry is what mosquitto_passwd of mosquitto 2 writes: the user name, the
/// number of rounds of PBKDF2 with HMAC-SHA512, the salt (8 to 64 octets) and the hash (64 octets)
/// in Base64. So files can be taken over from mosquitto, and back. `dpdk-chainring-passwd` writes
/// entries with more rounds than mosquitto_passwd does. The second kind, in the form in which
/// PostgreSQL keeps it, serves SCRAM-SHA-256 too (scram.h); mosquitto does not read it.
///
/// Whether a user exists cannot be told by how long matches() takes, as long as all entries have
/// the same number of rounds: for a name that is not in the file the work of the first entry is
/// done.
///
/// Thread-safety: a file is constant, so any thread may use it. matches() takes milliseconds, so no
/// worker calls it.
#pragma once
#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>

#include "../base/error.h"

namespace chainring::access {

inline constexpr std::uint32_t rounds_usual = 20'000;
inline constexpr std::uint32_t rounds_max = 10'000'000;
inline constexpr std::size_t users_max = 1'000'000;
inline constexpr std::size_t user_name_size_max = 255;

class password_file {
 public:
  /// Reads a file. errc::invalid_argument names the file, the line and what is wrong;
  /// errc::not_found and errc::io say that the file cannot be read.
  [[nodiscard]] static result<std::shared_ptr<const password_file>> read(const std::string& path);
  /// Does the same with a text; `name` stands for the file in errors.
  [[nodiscard]] static result<std::shared_ptr<const password_file>> parse(std::string_view text,
                                                                          const std::string& name);
  /// Whether this is the password of this user.
  [[nodiscard]] bool matches(std::string_view user, std::span<const std::byte> password) const;
  /// What SCRAM-SHA-256 needs of a user. A user that has no such entry gets keys to which no proof
  /// fits, with the same salt each time. Nothing where OpenSSL does not work.
  struct scram_keys {
    std::uint32_t rounds = 0;
    std::string salt{};
    std::array<unsigned char, 64> stored_and_server_key{};
  };
  [[nodiscard]] std::optional<scram_keys> scram_of(const std::string& user) const;
  /// Whether the user has an entry in both files, and the same one.
  [[nodiscard]] bool agrees_with(const password_file& other, const std::string& user) const;
  [[nodiscard]] std::size_t size() const noexcept { return users_.size(); }

 private:
  struct entry {
    std::uint32_t rounds = rounds_usual;
    std::string salt;
    std::array<unsigned char, 64> hash{}; ///< of SCRAM: StoredKey and ServerKey
    bool scram = false;
    bool operator==(const entry&) const = default;
  };
  struct reader;
  std::unordered_map<std::string, entry> users_;
  entry decoy_; ///< what is compared for a user that does not exist
  std::uint32_t scram_rounds_ = rounds_usual; ///< of the first user with SCRAM
};

/// How a password is kept: both kinds can be compared with a password, and SCRAM-SHA-256 needs the
/// second one.
enum class password_kind : std::uint8_t { pbkdf2_sha512, scram_sha256 };

/// Makes the line of a user with a salt of its own. errc::invalid_argument says what is wrong with
/// the name or the number of rounds.
[[nodiscard]] result<std::string>
make_password_line(std::string_view user, std::string_view password,
                   std::uint32_t rounds = rounds_usual,
                   password_kind kind = password_kind::pbkdf2_sha512);
/// The user name at the start of a line, or nothing in a comment or an empty line.
[[nodiscard]] std::string_view user_of_line(std::string_view line) noexcept;

} // namespace chainring::access
