// SPDX-License-Identifier: BSD-3-Clause
/// A broker with one worker or two under the line front end, for tests of shared subscriptions.
#pragma once
#include <gtest/gtest.h>

#include <ctime>
#include <memory>
#include <string>
#include <vector>

#include "../region/region_fixture.h"
#include "line_fixture.h"
#include "wall_clock.h"

namespace chainring::testing_line {

inline constexpr unsigned alice = 1;
inline constexpr std::time_t limit_s = 60;
inline constexpr unsigned members_at = 10; ///< the connection of the first member

/// "MSG n qos bits flags topic text"
struct arrived {
  std::string number, qos, bits, flags, topic, text;
  explicit arrived(const std::string& line) {
    std::string rest = line;
    for (std::string* word : {&number, &number, &qos, &bits, &flags, &topic}) {
      *word = rest.substr(0, rest.find(' '));
      rest.erase(0, word->size() + 1);
    }
    text = rest;
  }
};

class Groups : public testing::TestWithParam<unsigned> {
 protected:
  std::unique_ptr<test::line_server> server;
  broker_config config = line_config(GetParam(), 63);
  store_layout layout = [] {
    store_layout l;
    l.sessions_max = 64;
    l.subscriptions_max = 128;
    l.groups_max = 4;
    return l;
  }();

  void start() {
    auto made = broker_on(memory_media(4 << 20, durability_class::process), config, true, layout);
    ASSERT_TRUE(made) << made.error().message;
    server = std::make_unique<test::line_server>(std::move(*made));
    ASSERT_EQ(ask(alice, "CONNECT " + identity_at(server->broker(), 0, "alice") + " clean"),
              "OK 1");
  }
  void SetUp() override { start(); }
  std::string ask(unsigned connection, const std::string& line) {
    return server->ask(connection, line);
  }
  void send(unsigned connection, const std::string& line) {
    server->send(connection, line);
    server->settle();
  }
  std::string name(unsigned m) {
    return identity_at(server->broker(), m % GetParam(), "member" + std::to_string(m) + "-");
  }
  bool connect(unsigned m, const char* flags = "-") {
    return ask(members_at + m, "CONNECT " + name(m) + " " + flags).starts_with("OK ");
  }
  bool subscribe(unsigned m, const std::string& filter, const char* qos = "1") {
    return ask(members_at + m, "SUB " + filter + " " + qos).starts_with("OK ");
  }
  void join(unsigned count, const std::string& filter = "$share/g/a/#") {
    for (unsigned m = 0; m < count; ++m) {
      ASSERT_TRUE(connect(m));
      ASSERT_TRUE(subscribe(m, filter));
    }
  }
  void publish(int first, int last, const std::string& to = "a/b") {
    for (int i = first; i <= last; ++i)
      ASSERT_TRUE(ask(alice, "PUB " + to + " 1 " + std::to_string(i)).starts_with("OK ")) << i;
  }
  /// What a member has been given, in order. DROP and GONE lines are left out.
  std::vector<arrived> take(unsigned m) {
    std::vector<arrived> all;
    for (std::string line = server->next(members_at + m); !line.empty();
         line = server->next(members_at + m))
      if (line.starts_with("MSG ")) all.emplace_back(line);
    return all;
  }
  void acknowledge(unsigned m, const arrived& a) { send(members_at + m, "ACK " + a.number); }
  std::vector<std::string> take_texts(unsigned m, bool ack = true) {
    std::vector<std::string> texts;
    for (const arrived& a : take(m)) {
      texts.push_back(a.text);
      if (ack) acknowledge(m, a);
    }
    return texts;
  }
  [[nodiscard]] std::vector<group_info> groups() {
    std::vector<group_info> all;
    (void)server->broker().groups(0, 100, all);
    return all;
  }
  [[nodiscard]] std::uint64_t live() { return server->broker().message_statistics().live; }
  /// Lets the workers run until that is so. The time limit only finds a hang.
  template <class F> bool wait_until(F&& so) {
    for (const std::time_t begin = std::time(nullptr); std::time(nullptr) < begin + limit_s;) {
      server->settle();
      if (so()) return true;
    }
    return false;
  }
};

using texts = std::vector<std::string>;

} // namespace chainring::testing_line
