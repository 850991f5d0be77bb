// SPDX-License-Identifier: BSD-3-Clause
// This program keeps who wants which topic, and answers in both directions:
//   c++ -std=c++20 durable_topics.cc $(pkg-config --cflags --libs libchainring)
//   ./a.out /var/tmp/topics join ada news    and: leave ada news, topics ada, members news, go ada
#include <chainring/chainring.h>
#include <cstdio>
#include <string_view>

using memberships = chainring::bimap<std::string, std::string>;

int main(int argc, char** argv) {
  if (argc < 4) {
    std::fprintf(stderr, "usage: %s REGION join|leave|topics|members|go NAME [TOPIC]\n", argv[0]);
    return 2;
  }
  auto opened =
      chainring::objects::open_or_create(argv[1], chainring::durable<memberships>{"members", 1000});
  if (!opened) {
    std::fprintf(stderr, "%s\n", opened.error().message.c_str());
    return 1;
  }
  memberships members = (*opened)->get<memberships>("members").value();
  const std::string_view verb = argv[2], name = argv[3], topic = argc > 4 ? argv[4] : "";

  chainring::map_status done = chainring::map_status::done;
  if (verb == "join") done = members.insert(name, topic);
  if (verb == "leave") done = members.erase(name, topic);
  if (verb == "topics")
    members.for_each_second(name, [](const std::string& t) { std::printf("%s\n", t.c_str()); });
  if (verb == "members")
    members.for_each_first(name, [](const std::string& n) { std::printf("%s\n", n.c_str()); });
  if (verb == "go")
    std::printf("%llu\n", static_cast<unsigned long long>(members.erase_first(name)));
  if (done != chainring::map_status::done) std::fprintf(stderr, "%s\n", to_string(done));
  return (*opened)->close() && done == chainring::map_status::done ? 0 : 1;
}
