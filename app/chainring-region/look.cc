// SPDX-License-Identifier: BSD-3-Clause
#include "look.h"

#include <cstdio>
#include <ctime>
#include <nlohmann/json.hpp>
#include <string>
#include <unordered_map>

#include "base/escape.h"
#include "broker/broker_media.h"
#include "inspect/inspect.h"
#include "message/message_media.h"
#include "ring/slot_delivery.h"

namespace chainring::region_tool {

namespace {

using fields = nlohmann::ordered_json;
using owner = inspection::owner;

/// The time in words, or nothing where there is none.
std::string time_text(std::uint64_t ns) {
  if (ns == 0) return {};
  const auto s = static_cast<std::time_t>(ns / 1'000'000'000);
  std::tm parts{};
  char text[40];
  if (gmtime_r(&s, &parts) == nullptr ||
      std::strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%SZ", &parts) == 0)
    return "beyond the calendar";
  return text;
}

/// Prints records, as sentences or as JSON, and keeps count of the readings.
class printer {
 public:
  printer(const region& r, const look_options& o) : region_(r), options_(o), look(r) {}

  [[nodiscard]] std::string shown(std::string_view octets) const {
    return escape(octets, options_.octets);
  }
  [[nodiscard]] std::string shown(inspection::bytes octets) const {
    return shown(std::string_view(reinterpret_cast<const char*>(octets.data()), octets.size()));
  }

  void line(const char* kind, const fields& f) {
    if (options_.json) {
      fields all = {{"kind", kind}};
      all.update(f);
      std::printf("%s\n", all.dump().c_str());
      return;
    }
    std::string text = kind;
    const char* between = " ";
    for (const auto& [key, value] : f.items()) {
      if (value.is_string() && value.get_ref<const std::string&>().empty()) continue;
      std::string name = key;
      for (char& c : name)
        if (c == '_') c = ' ';
      text += between + name + " ";
      // A string is escaped already.
      if (value.is_boolean())
        text += value.get<bool>() ? "yes" : "no";
      else
        text += value.is_string() ? '"' + value.get<std::string>() + '"' : value.dump();
      between = ", ";
    }
    std::printf("%s\n", text.c_str());
  }

  void count(const char* kind, const look_counts& c) {
    total_[kind] = {{"shown", c.whole}, {"damaged", c.damaged}, {"changing", c.changing}};
    all_ += c;
  }
  /// Adds to a count that several calls make up.
  void add(const char* kind, const look_counts& c) {
    look_counts& sum = sums_[kind];
    sum += c;
    count_again(kind, sum, c);
  }

  /// Prints the damage and the totals. Returns the exit status.
  int end() {
    for (const std::string& note : region_.notes())
      line("damage", {{"text", note}});
    for (const std::string& sentence : look.damage())
      line("damage", {{"text", escape(sentence, 1000)}});
    for (const auto& [kind, counts] : total_.items()) {
      fields f = {{"of", kind}};
      f.update(counts);
      line("total", f);
    }
    if (all_.changing != 0 && !options_.json)
      std::printf(
          "%llu records are changing: their owner stored to them each time they were read\n",
          static_cast<unsigned long long>(all_.changing));
    return all_.damaged == 0 && region_.notes().empty() ? 0 : 1;
  }

 private:
  void count_again(const char* kind, const look_counts& sum, const look_counts& more) {
    total_[kind] = {{"shown", sum.whole}, {"damaged", sum.damaged}, {"changing", sum.changing}};
    all_ += more;
  }

  const region& region_;
  const look_options options_;
  fields total_;
  look_counts all_;
  std::unordered_map<std::string, look_counts> sums_;

 public:
  inspection look;
};

fields of_queue(const queue_look& q) {
  return {{"incarnation", q.incarnation},
          {"waiting", q.waiting},
          {"receiving", q.receiving},
          {"unpublished", q.unpublished},
          {"rings", q.rings},
          {"slots", q.slots},
          {"head", q.head},
          {"newest", q.newest},
          {"damaged_slots", q.slots_read.damaged}};
}

void print_sessions(printer& out) {
  std::unordered_map<std::uint32_t, std::uint64_t> subscriptions;
  const look_counts counted =
      out.look.subscriptions([&](const subscription_look& s) { ++subscriptions[s.session]; });
  const look_counts sessions = out.look.sessions([&](const session_look& s) {
    fields f = {{"number", s.number},
                {"identity", out.shown(s.identity)},
                {"incarnation", s.incarnation},
                {"ends_with_connection", s.ends_with_connection},
                {"created", time_text(s.created_ns)}};
    if (s.has_settings)
      f.update({{"connection_lost", time_text(s.disconnected_ns)},
                {"expiry_s", s.expiry_s},
                {"will", s.has_will}});
    f["subscriptions"] = subscriptions[s.number];
    out.line("session", f);
  });
  const look_counts groups = out.look.sessions(
      [&](const session_look& s) {
        out.line("group", {{"number", s.number},
                           {"name", out.shown(s.identity)},
                           {"incarnation", s.incarnation},
                           {"created", time_text(s.created_ns)}});
      },
      owner::group);
  out.count("sessions", sessions);
  out.count("groups", groups);
  out.count("subscriptions", counted);
}

void print_message(printer& out, const char* kind, fields f, const message_look& m) {
  f.update({{"message", m.number},
            {"topic", out.shown(m.topic)},
            {"published", time_text(m.published_ns)},
            {"expires", time_text(m.expires_ns)},
            {"publisher", m.publisher},
            {"will", (m.flags & message_flag_will) != 0},
            {"octets", m.payload.size()},
            {"content", out.shown(inspection::bytes(m.payload))}});
  out.line(kind, f);
}

/// The queues of the broker, each with what waits in it if that is asked for.
void print_queues(printer& out, owner of, bool entries) {
  const char* kind = of == owner::session ? "queue" : "group_queue";
  const look_counts queues = out.look.queues(
      [&](const queue_look& q) {
        fields f = {{"number", q.number}};
        f.update(of_queue(q));
        out.line(kind, f);
        if (!entries || q.waiting == 0) return;
        out.add("queued messages",
                out.look.entries(q.number, of, [&](const entry_look& e, const message_look& m) {
                  const slot_delivery d = slot_delivery::unpack(e.delivery);
                  print_message(out, "entry",
                                {{"queue", q.number},
                                 {"of_group", of == owner::group},
                                 {"ticket", e.ticket},
                                 {"qos", d.qos},
                                 {"retain", d.retain},
                                 {"receiving", e.receiving}},
                                m);
                }));
      },
      of);
  out.count(of == owner::session ? "queues" : "queues of groups", queues);
}

void print_streams(printer& out, const object_look& o) {
  out.add("queues of objects", out.look.streams(o, [&](const queue_look& q) {
    fields f = {{"object", out.shown(o.name)}, {"stream", q.number}};
    f.update(of_queue(q));
    out.line("stream", f);
  }));
}

void print_subscriptions(printer& out) {
  out.count("subscriptions", out.look.subscriptions([&](const subscription_look& s) {
    out.line("subscription", {{"session", s.session},
                              {"filter", out.shown(s.filter)},
                              {"qos", subscription_option::qos_of(s.options)},
                              {"no_local", (s.options & subscription_option::no_local) != 0},
                              {"identifier", s.identifier}});
  }));
}

void print_retained(printer& out) {
  out.count("retained messages", out.look.retained([&](const retained_look& r) {
    print_message(out, "retained", {{"of_topic", out.shown(r.topic)}}, r.message);
  }));
}

/// Entries of an object are printed before the object's line, which has their number.
void print_object(printer& out, const object_look& o, bool entries) {
  const std::string name = out.shown(o.name);
  look_counts counts;
  if (o.kind == object_kind::queue) {
    for (std::uint32_t s = 0; s < o.streams; ++s)
      counts += out.look.queue_entries(o, s, [&](const entry_look& e, inspection::bytes bytes) {
        if (entries)
          out.line("queued", {{"object", name},
                              {"stream", s},
                              {"ticket", e.ticket},
                              {"octets", bytes.size()},
                              {"content", out.shown(bytes)}});
      });
    print_streams(out, o);
  } else {
    const bool map = o.kind == object_kind::map;
    counts = out.look.map_entries(o, [&](inspection::bytes key, inspection::bytes value) {
      if (entries)
        out.line(map ? "mapped" : "pair", {{"object", name},
                                           {map ? "key" : "first", out.shown(key)},
                                           {map ? "value" : "second", out.shown(value)}});
    });
  }
  out.add("entries of objects", counts);
  fields f = {{"name", name}, {"type", out.shown(o.type)}, {"version", o.version}};
  if (o.kind != object_kind::other) f["entries"] = counts.whole;
  if (o.damaged) f["damaged"] = true;
  out.line("object", f);
}

} // namespace

int show_sessions(const region& r, const look_options& o) {
  printer out(r, o);
  print_sessions(out);
  return out.end();
}

int show_queues(const region& r, const look_options& o) {
  printer out(r, o);
  print_queues(out, owner::session, false);
  print_queues(out, owner::group, false);
  for (const object_look& object : out.look.objects())
    if (object.kind == object_kind::queue) print_streams(out, object);
  return out.end();
}

int dump(const region& r, const look_options& o) {
  printer out(r, o);
  out.line("region", {{"path", escape(r.medium().path(), 1000)},
                      {"class", to_string(r.medium().durability())},
                      {"uuid", r.uuid()},
                      {"size", r.geometry().size},
                      {"opened", r.incarnation()},
                      {"closed", r.was_clean()}});
  if (out.look.has_broker()) {
    print_sessions(out);
    if (!o.counts) {
      print_subscriptions(out);
      print_retained(out);
    }
    print_queues(out, owner::session, !o.counts);
    print_queues(out, owner::group, !o.counts);
  }
  std::uint64_t bad_headers = 0;
  for (const object_look& object : out.look.objects()) {
    print_object(out, object, !o.counts);
    bad_headers += object.damaged;
  }
  if (bad_headers != 0) out.add("headers of objects", {.damaged = bad_headers});
  return out.end();
}

} // namespace chainring::region_tool
