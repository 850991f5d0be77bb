// SPDX-License-Identifier: BSD-3-Clause
/// The command line: its options, their checks, and the help.
#pragma once
#include <CLI/CLI.hpp>
#include <string>
#include <vector>

#include "options.h"

namespace chainring::client {

class arguments {
 public:
  /// Adds all commands and options to the app.
  explicit arguments(CLI::App& app);

  /// Checks what was parsed, and runs the command; returns the exit status. Throws CLI::ParseError
  /// for options that are wrong together.
  int run() const;

 private:
  void add_common(CLI::App& command);
  void add_will(CLI::App& command);
  void add_topics(CLI::App& command, bool many);
  void add_message(CLI::App& command, bool lines);
  void add_output(CLI::App& command);
  void add_pub(CLI::App& app);
  void add_sub(CLI::App& app);
  void add_sub_ends(CLI::App& command);
  void add_rr(CLI::App& app);

  [[nodiscard]] client_options checked_client() const;
  void check_will(client_options& out) const;
  void check_search(client_options& out) const;
  [[nodiscard]] topic checked_name(const char* option, const std::string& name) const;
  [[nodiscard]] topic checked_filter(const char* option, const std::string& filter) const;
  [[nodiscard]] message_source checked_source() const;
  [[nodiscard]] output_options checked_output() const;
  [[nodiscard]] pub_options checked_pub() const;
  [[nodiscard]] sub_options checked_sub() const;
  [[nodiscard]] rr_options checked_rr() const;

  CLI::App *pub_ = nullptr, *sub_ = nullptr, *rr_ = nullptr;

  // The values as the user typed them. All commands write to the same ones, because only one
  // command is given.
  client_options client_;
  std::string id_prefix_, search_;
  unsigned radius_ = 1;
  double search_delay_s_ = 1, retry_interval_s_ = 5;
  bool ipv4_ = false, ipv6_ = false, short_topics_ = false, keep_session_ = false;
  std::string will_topic_;
  std::optional<std::string> will_payload_;
  int qos_ = 0, will_qos_ = 0;
  bool will_retain_ = false;

  std::vector<std::string> topics_, unsubscribe_, filters_out_;
  std::vector<std::uint16_t> topic_ids_;
  std::string text_, file_, response_topic_, format_;
  bool lines_ = false, whole_ = false, null_ = false, retain_ = false;
  unsigned long repeat_ = 1, count_ = 0;
  double repeat_delay_s_ = 0, timeout_s_ = 0, rr_timeout_s_ = 60, awake_every_s_ = 0;
  unsigned sleep_s_ = 0;
  bool verbose_ = false, no_newline_ = false;
  bool no_retained_ = false, retained_only_ = false, remove_retained_ = false, end_ = false;
};

} // namespace chainring::client
