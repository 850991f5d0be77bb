// SPDX-License-Identifier: BSD-3-Clause
// dpdk-chainring-passwd keeps the file of --password-file. Its arguments are those of
// mosquitto_passwd.
#include <CLI/CLI.hpp>
#include <cstdio>
#include <fcntl.h>
#include <fstream>
#include <iostream>
#include <string>
#include <sys/stat.h>
#include <termios.h>
#include <unistd.h>
#include <vector>

#include "access/password_file.h"

namespace {

using namespace chainring;

int refuse(const std::string& why) {
  std::fprintf(stderr, "dpdk-chainring-passwd: %s\n", why.c_str());
  return 2;
}

/// Reads a line from standard input, without showing what is typed at a terminal.
std::string read_secret(const char* prompt) {
  termios before{};
  const bool terminal = tcgetattr(STDIN_FILENO, &before) == 0;
  if (terminal) {
    std::fprintf(stderr, "%s", prompt);
    termios quiet = before;
    quiet.c_lflag &= ~static_cast<tcflag_t>(ECHO);
    tcsetattr(STDIN_FILENO, TCSAFLUSH, &quiet);
  }
  std::string line;
  std::getline(std::cin, line);
  if (terminal) {
    tcsetattr(STDIN_FILENO, TCSAFLUSH, &before);
    std::fprintf(stderr, "\n");
  }
  return line;
}

/// Writes the lines beside the file, and puts them in its place at once, so that nobody ever reads
/// half of them.
bool replace(const std::string& path, const std::vector<std::string>& lines) {
  const std::string fresh = path + ".new";
  struct stat former {};
  const bool existed = stat(path.c_str(), &former) == 0;
  const int fd = open(fresh.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
  if (fd < 0) return false;
  bool good = !existed || (fchmod(fd, former.st_mode & 07777) == 0 &&
                           fchown(fd, former.st_uid, former.st_gid) == 0);
  for (const std::string& line : lines) {
    const std::string text = line + "\n";
    good = good && write(fd, text.data(), text.size()) == static_cast<ssize_t>(text.size());
  }
  good = good && fsync(fd) == 0;
  good = close(fd) == 0 && good;
  good = good && rename(fresh.c_str(), path.c_str()) == 0;
  if (!good) (void)unlink(fresh.c_str());
  return good;
}

} // namespace

int main(int argc, char** argv) {
  CLI::App a{"Adds a user to the password file of dpdk-chainring, changes a password, or deletes a "
             "user.\nThe file is that of mosquitto 2, except for entries of --scram."};
  a.name("dpdk-chainring-passwd");
  a.set_version_flag("--version", "dpdk-chainring-passwd " CHAINRING_VERSION);
  bool create = false, batch = false, remove = false, scram = false;
  std::uint32_t rounds = access::rounds_usual;
  std::string path, user, password;
  a.add_flag("-c", create, "Make the file; one that exists is replaced");
  a.add_flag("-b", batch, "Take the password from the command line, where others may see it");
  a.add_flag("-D", remove, "Delete the user");
  a.add_flag("--scram", scram,
             "Keep the password so that the client can prove it by SCRAM-SHA-256 too; mosquitto "
             "does not read such an entry");
  a.add_option("-I", rounds, "Rounds of PBKDF2; a check of the password takes as long")
      ->check(CLI::Range(1u, access::rounds_max))
      ->capture_default_str();
  a.add_option("FILE", path, "The password file")->required();
  a.add_option("USER", user, "The user name")->required();
  a.add_option("PASSWORD", password,
               "The password, with -b only; otherwise it is asked for, or "
               "read from standard input");
  try {
    a.parse(argc, argv);
  } catch (const CLI::ParseError& e) {
    return a.exit(e) == 0 ? 0 : 2;
  }
  if (batch == password.empty()) return refuse("PASSWORD: expected with -b, and only with it");
  if (remove && (create || batch)) return refuse("-D: expected without -c and -b");
  std::vector<std::string> lines;
  if (!create) {
    if (auto read = access::password_file::read(path); !read)
      return refuse(read.error().message +
                    (read.error().code == errc::not_found ? "; -c makes a new one" : ""));
    std::ifstream in(path);
    for (std::string line; std::getline(in, line);)
      lines.push_back(line);
  }
  const std::size_t before = lines.size();
  const auto mine = [&](const std::string& line) { return access::user_of_line(line) == user; };
  if (remove) {
    std::erase_if(lines, mine);
    if (lines.size() == before) return refuse(path + " has no user '" + user + "'");
  } else {
    if (!batch) {
      password = read_secret("Password: ");
      if (isatty(STDIN_FILENO) == 1 && read_secret("The same again: ") != password)
        return refuse("the two passwords differ");
    }
    auto line = access::make_password_line(user, password, rounds,
                                           scram ? access::password_kind::scram_sha256
                                                 : access::password_kind::pbkdf2_sha512);
    if (!line) return refuse(line.error().message);
    const auto at = std::find_if(lines.begin(), lines.end(), mine);
    if (at == lines.end())
      lines.push_back(*line);
    else
      *at = *line;
  }
  if (!replace(path, lines)) return refuse(path + ": the file cannot be written");
  return 0;
}
