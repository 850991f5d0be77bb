// SPDX-License-Identifier: BSD-3-Clause
// The checks of the command line that CLI11 cannot make: values that are wrong together.
#include <random>
#include <unistd.h>

#include "arguments.h"
#include "format.h"

namespace chainring::client {
namespace {

[[noreturn]] void refuse(const std::string& why) {
  throw CLI::ValidationError(why, exit_usage);
}

mqttsn::qos_level level(int qos) {
  return qos < 0 ? mqttsn::qos_level::minus_one : mqttsn::qos_level(qos);
}

std::chrono::milliseconds milliseconds(double seconds) {
  return std::chrono::milliseconds(static_cast<long long>(seconds * 1000));
}

std::string random_id() {
  std::random_device random;
  return "chainring-" + std::to_string(::getpid()) + "-" + std::to_string(random() % 10000);
}

} // namespace

client_options arguments::checked_client() const {
  client_options out = client_;
  if (keep_session_ && out.client_id.empty())
    refuse("--disable-clean-session: a session that the broker keeps needs a client id; give one "
           "with --id");
  if (!id_prefix_.empty()) out.client_id = id_prefix_ + std::to_string(::getpid());
  if (out.client_id.empty()) out.client_id = random_id();
  if (!mqttsn::valid_client_id(out.client_id))
    refuse((id_prefix_.empty() ? "--id: '" : "--id-prefix: '") + out.client_id +
           "' is not 1 to 23 characters of UTF-8");
  out.clean = !keep_session_;
  out.family = ipv4_ ? address_family::ipv4 : ipv6_ ? address_family::ipv6 : address_family::any;
  out.retry_interval = milliseconds(retry_interval_s_);
  check_search(out);
  check_will(out);
  return out;
}

void arguments::check_search(client_options& out) const {
  if (search_.empty()) return;
  out.search =
      search_options{search_, static_cast<std::uint8_t>(radius_), milliseconds(search_delay_s_)};
}

void arguments::check_will(client_options& out) const {
  if (!will_topic_.empty()) {
    if (!valid_topic_name(will_topic_))
      refuse("--will-topic: '" + will_topic_ +
             "' is not a topic name: expected UTF-8 without + and #");
    out.will = will{will_topic_, will_payload_, level(will_qos_), will_retain_};
  }
  if (out.delete_will && out.clean)
    refuse("--will-delete: a clean session has no will to delete; give --disable-clean-session");
  if (out.update_will && !out.will && !out.delete_will)
    refuse("--will-update: give the new will with --will-topic, or delete the old one with "
           "--will-delete");
}

topic arguments::checked_name(const char* option, const std::string& name) const {
  if (!valid_topic_name(name))
    refuse(std::string(option) + ": '" + name +
           "' is not a topic name: expected 1 to 65,535 octets of UTF-8 without + and #");
  return short_topics_ && name.size() == 2 ? topic::short_name(name) : topic::named(name);
}

topic arguments::checked_filter(const char* option, const std::string& filter) const {
  const std::string_view inner = without_group(filter);
  if (is_shared(filter) &&
      (inner.empty() || has_wildcard(filter.substr(0, filter.size() - inner.size()))))
    refuse(std::string(option) + ": '" + filter +
           "' is not a shared subscription: expected $share/GROUP/FILTER, with a group name "
           "without +, # and /");
  if (!valid_topic_filter(inner))
    refuse(std::string(option) + ": '" + filter +
           "' is not a topic filter: expected UTF-8, with + only as a whole level and # only as "
           "the whole last level");
  return short_topics_ && filter.size() == 2 && !has_wildcard(filter) ? topic::short_name(filter)
                                                                      : topic::named(filter);
}

message_source arguments::checked_source() const {
  using kind = message_source::kind;
  if (lines_) return {kind::lines, {}};
  if (whole_) return {kind::whole, {}};
  if (null_) return {kind::null, {}};
  if (!file_.empty()) return {kind::file, file_};
  return {kind::message, text_};
}

output_options arguments::checked_output() const {
  if (const auto fault = fault_of_format(format_); !fault.empty())
    refuse("--format: '" + format_ + "' is not a format: " + fault + "; expected " +
           format_letters + " behind %, and n, r, t, 0, \\, a or e behind \\");
  return {format_, verbose_, !no_newline_};
}

pub_options arguments::checked_pub() const {
  pub_options out;
  out.client = checked_client();
  out.qos = level(qos_);
  out.to =
      topic_ids_.empty() ? checked_name("--topic", topics_[0]) : topic::predefined(topic_ids_[0]);
  if (out.qos == mqttsn::qos_level::minus_one && out.to.type == mqttsn::topic_id_type::normal)
    refuse("--qos: QoS -1 has no session in which to register '" + out.to.name +
           "'; give a predefined id with --topic-id, or a topic of two characters with "
           "--short-topic");
  if (out.qos == mqttsn::qos_level::minus_one && (out.client.will || out.client.delete_will))
    refuse("--qos: QoS -1 has no session, so there is no will; give --qos 0, 1 or 2");
  out.retain = retain_;
  out.source = checked_source();
  out.repeat = repeat_;
  out.repeat_delay = milliseconds(repeat_delay_s_);
  if (out.repeat > 1 && lines_)
    refuse("--repeat: the lines of standard input cannot be repeated; give --message, --file, "
           "--stdin-file or --null-message");
  return out;
}

sub_options arguments::checked_sub() const {
  sub_options out;
  out.client = checked_client();
  out.qos = level(qos_);
  for (const auto& filter : topics_)
    out.filters.push_back(checked_filter("--topic", filter));
  for (const auto id : topic_ids_)
    out.filters.push_back(topic::predefined(id));
  for (const auto& filter : unsubscribe_)
    out.unsubscribe.push_back(checked_filter("--unsubscribe", filter));
  for (const auto& filter : filters_out_) {
    if (!valid_topic_filter(filter)) refuse("--filter-out: '" + filter + "' is not a topic filter");
    out.filters_out.push_back(filter);
  }
  out.count = count_;
  if (timeout_s_ > 0) out.timeout = milliseconds(timeout_s_);
  if (sleep_s_ > 0) {
    const double every = awake_every_s_ > 0 ? awake_every_s_ : sleep_s_ * 0.75;
    if (every > sleep_s_)
      refuse("--awake-every: " + in_seconds(milliseconds(every)) +
             " is longer than --sleep, so the broker would count this client as lost; expected at "
             "most " +
             std::to_string(sleep_s_));
    out.sleep = sleep_options{static_cast<std::uint16_t>(sleep_s_), milliseconds(every)};
  }
  using kind = sub_options::retained_messages;
  out.retained = no_retained_ ? kind::none : retained_only_ ? kind::only : kind::all;
  out.remove_retained = remove_retained_;
  if (remove_retained_ && out.sleep)
    refuse("--remove-retained: a client that is only awake cannot publish; leave out --sleep");
  out.end_when_subscribed = end_;
  out.output = checked_output();
  return out;
}

rr_options arguments::checked_rr() const {
  rr_options out;
  out.client = checked_client();
  out.qos = level(qos_);
  out.request =
      topic_ids_.empty() ? checked_name("--topic", topics_[0]) : topic::predefined(topic_ids_[0]);
  out.response = checked_filter("--response-topic", response_topic_);
  out.retain = retain_;
  out.source = checked_source();
  out.timeout = milliseconds(rr_timeout_s_);
  out.output = checked_output();
  return out;
}

} // namespace chainring::client
