// SPDX-License-Identifier: BSD-3-Clause
// Fuzz target: the password file. A file is refused with its line, or each of its entries has a
// name by which it is found again.
#include <algorithm>
#include <string>

#include "access/password_file.h"
#include "fuzz.h"

using namespace chainring;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const fuzz::memory_file file({data, size});
  const auto read = access::password_file::read(file.path());
  std::string_view text(reinterpret_cast<const char*>(data), size);
  const auto parsed = access::password_file::parse(text, file.path());
  fuzz::expect(read.ok() == parsed.ok(), "a file and its text are not read alike");
  if (!read) {
    fuzz::expect(read.error().message.starts_with(file.path() + ":"),
                 "the file was refused without its name and line");
    return 0;
  }
  std::size_t users = 0;
  while (!text.empty()) {
    const std::size_t end = std::min(text.find('\n'), text.size());
    const std::string_view user = access::user_of_line(text.substr(0, end));
    users += !user.empty() && user != "\r" ? 1 : 0;
    text.remove_prefix(std::min(end + 1, text.size()));
  }
  fuzz::expect(users == (*read)->size(), "an entry is lost, or was made up");
  return 0;
}
