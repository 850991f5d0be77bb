// SPDX-License-Identifier: BSD-3-Clause
// Reads the file of predefined topic ids.
#include <algorithm>
#include <fstream>
#include <sstream>

#include "mqttsn/gateway.h"

namespace chainring::mqttsn {

result<std::vector<predefined_topic>> read_predefined_topics(const std::string& path) {
  std::ifstream in(path);
  if (!in) return error{errc::not_found, path + ": the file cannot be read"};
  std::vector<predefined_topic> topics;
  std::string line;
  for (unsigned number = 1; std::getline(in, line); ++number) {
    const std::string where = path + ":" + std::to_string(number) + ": ";
    line.resize(std::min(line.find('#') == std::string::npos || line[0] != '#' ? line.size() : 0,
                         line.size()));
    std::istringstream words(line);
    long id = 0;
    std::string name, rest;
    if (!(words >> std::ws) || words.eof()) continue;
    if (!(words >> id >> name) || (words >> rest))
      return error{errc::invalid_argument, where + "expected a topic id and a name on the line"};
    if (id < 1 || id > 65534)
      return error{errc::invalid_argument,
                   where + "topic id " + std::to_string(id) + ": expected 1 to 65534"};
    if (!valid_topic_name(name) || name.size() > topic_length_max)
      return error{errc::invalid_argument,
                   where + "'" + name +
                       "' is not a topic name: expected UTF-8 without + and #, and at most " +
                       std::to_string(topic_length_max) + " octets"};
    for (const predefined_topic& t : topics)
      if (t.id == id || t.name == name)
        return error{errc::invalid_argument, where + "id " + std::to_string(id) + " or name '" +
                                                 name + "' is defined twice"};
    topics.push_back({static_cast<std::uint16_t>(id), name});
  }
  return topics;
}

} // namespace chainring::mqttsn
