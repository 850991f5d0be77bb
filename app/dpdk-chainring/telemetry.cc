// SPDX-License-Identifier: BSD-3-Clause
// The queries run on threads of DPDK's telemetry library; all that they read may be read by any
// thread. A reply holds at most 256 entries and 16 KiB, and the library leaves out what has no
// room. So lists come in pages, each of which ends before an entry that has no room, and the
// parameter FIRST asks for the next page.
#include "telemetry.h"

#include <cstdlib>
#include <cstring>
#include <mutex>
#include <rte_telemetry.h>

#include "base/escape.h"
#include "show.h"

namespace chainring::app {

namespace {

std::mutex one_query; // it also keeps the service alive during a query
service* served = nullptr;
constexpr std::size_t page_rows = 64;
constexpr std::size_t page_filters = 48; // each has 120 octets, and JSON doubles its backslashes
bool incomplete = false; // whether something had no room in the reply; guarded by one_query

/// A dictionary of a reply, which counts the octets that it takes at most.
class dictionary {
 public:
  explicit dictionary(rte_tel_data* data) : data_(data) {}
  void add(const char* name, std::uint64_t value) {
    count(name, std::to_string(value).size());
    if (rte_tel_data_add_dict_u64(data_, name, value) != 0) incomplete = true;
  }
  /// The text has at most 120 octets, as escape() returns it.
  void add(const char* name, const std::string& text) {
    count(name, 2 * text.size() + 2); // JSON may double characters
    if (rte_tel_data_add_dict_string(data_, name, text.c_str()) != 0) incomplete = true;
  }
  [[nodiscard]] rte_tel_data* data() const noexcept { return data_; }
  [[nodiscard]] std::size_t octets() const noexcept { return octets_; }

 private:
  void count(const char* name, std::size_t value) { octets_ += std::strlen(name) + value + 4; }

  rte_tel_data* data_;
  std::size_t octets_ = 0;
};

/// A page of entries, each a dictionary of its own.
class listing {
 public:
  explicit listing(rte_tel_data* d) : reply_(d) {}
  /// Adds an entry, which fill() writes. False: it has no room, and the next page begins with it.
  template <class F> bool add(const std::string& name, F&& fill) {
    constexpr std::size_t octets_max = 15'000, entries_max = 250;
    rte_tel_data* data = rte_tel_data_alloc();
    bool room = data != nullptr && entries_ < entries_max;
    if (room) {
      rte_tel_data_start_dict(data);
      dictionary one(data);
      fill(one);
      octets_ += one.octets() + name.size() + 6;
      room = octets_ <= octets_max;
    }
    if (room && rte_tel_data_add_dict_container(reply_, name.c_str(), data, 0) == 0) {
      ++entries_;
      return true;
    }
    rte_tel_data_free(data);
    if (entries_ == 0) incomplete = true; // or the next page would be the same
    return false;
  }

 private:
  rte_tel_data* reply_;
  std::size_t octets_ = 0, entries_ = 0;
};

/// Answers with what fill() writes, or with nothing when that has no room.
template <class F> int query(rte_tel_data* d, F&& fill) {
  const std::lock_guard guard(one_query);
  rte_tel_data_start_dict(d);
  if (served == nullptr) return -1;
  incomplete = false;
  dictionary reply(d);
  fill(*served, reply);
  // The library would leave out what has no room and say nothing.
  constexpr std::size_t octets_max = 16'000;
  return incomplete || reply.octets() > octets_max ? -1 : 0;
}

int region_query(const char*, const char*, rte_tel_data* d) {
  return query(d, [](service& s, dictionary& d) {
    chainring::region& r = s.broker().region();
    const block_store_statistics b = s.broker().block_statistics();
    const message_table_statistics m = s.broker().message_statistics();
    d.add("path", escape(r.medium().path()));
    d.add("class", std::string(to_string(r.medium().durability())));
    d.add("driver", std::string(r.medium().driver_name()));
    d.add("uuid", std::string(r.uuid()));
    d.add("size", r.medium().size());
    d.add("opened", r.incarnation());
    d.add("failed", r.medium().failed());
    d.add("block_size", b.block_size);
    d.add("blocks", b.block_count);
    d.add("blocks_free", b.free_blocks);
    d.add("blocks_live", b.live_blocks);
    d.add("largest_free_run", b.largest_run);
    d.add("messages_live", m.live);
    d.add("messages_max", m.descriptors);
    d.add("messages_damaged", m.damaged);
    d.add("lost_pages", r.medium().lost_pages());
    d.add("blocks_withheld", b.withheld_blocks);
  });
}

int counters_query(const char*, const char*, rte_tel_data* d) {
  return query(d, [](service& s, dictionary& d) {
    for_each_counter(s.broker().counters(),
                     [&d](const char* name, std::uint64_t value) { d.add(name, value); });
    mqttsn::for_each_counter(s.gateway().counters(),
                             [&d](const char* name, std::uint64_t value) { d.add(name, value); });
    for_each_tcp_counter(
        s, [&d](const std::string& name, std::uint64_t value) { d.add(name.c_str(), value); });
    d.add("sessions", s.broker().session_count());
    d.add("subscriptions", s.broker().subscription_count());
  });
}

int rates_query(const char*, const char*, rte_tel_data* d) {
  return query(d, [](service& s, dictionary& d) {
    (void)s.sampled_rates().for_each([&d](const char* name, double per_second) {
      d.add(name, static_cast<std::uint64_t>(per_second + 0.5));
    });
  });
}

void add_port(dictionary& d, service& s, const net::interface& i) {
  const auto links = [&](auto&& count) {
    std::uint64_t n = 0;
    for (const auto& w : s.workers())
      n += count(*s.listener(w->number).links()[i.config.interface_id]);
    return n;
  };
  for (std::size_t r = 1; r < net::drop_reason_count; ++r) {
    const auto reason = static_cast<net::drop_reason>(r);
    const std::uint64_t n = links([&](const net::link& l) { return l.drops()[reason]; });
    if (n != 0) d.add((std::string("dropped_") + net::to_string(reason)).c_str(), n);
  }
  d.add("reassembled", links([](const net::link& l) { return l.reassembled(); }));
  d.add("neighbours_evicted", i.arp->evicted());
}

void add_worker(dictionary& d, service& s, const worker_context& w) {
  const net::listener& l = s.listener(w.number);
  d.add("handed_over", l.handed_over());
  d.add("handed_dropped", l.handed_dropped());
  d.add("answers_dropped", l.out().dropped());
  std::uint64_t stalls = 0;
  for (const auto& link : l.links())
    stalls += link->tx().stalls();
  d.add("transmit_stalls", stalls);
  d.add("rounds", w.rounds.value());
  d.add("idle_rounds", w.idle_rounds.value());
}

std::uint32_t first_of(const char* parameters) {
  return static_cast<std::uint32_t>(parameters != nullptr ? std::strtoul(parameters, nullptr, 10)
                                                          : 0);
}

// The ports come first and then the workers.
int ports_query(const char*, const char* parameters, rte_tel_data* data) {
  return query(data, [parameters](service& s, dictionary& d) {
    const std::size_t ports = s.interfaces().size(), all = ports + s.workers().size();
    listing list(d.data());
    std::size_t n = first_of(parameters);
    for (; n < all; ++n) {
      const bool room =
          n < ports
              ? list.add("port" + std::to_string(s.interfaces()[n]->device.id()),
                         [&](dictionary& one) { add_port(one, s, *s.interfaces()[n]); })
              : list.add("worker" + std::to_string(s.workers()[n - ports]->number),
                         [&](dictionary& one) { add_worker(one, s, *s.workers()[n - ports]); });
      if (!room) break;
    }
    d.add("next", n < all ? n : 0);
  });
}

/// Adds everything about a session to a dictionary.
void add_session(dictionary& one, const session_info& i) {
  one.add("client", escape(i.identity));
  one.add("address", i.address == client_address{}
                         ? std::string()
                         : net::to_string(net::endpoint::from_key(i.address)));
  one.add("connected", i.connected);
  one.add("clean", i.ends_with_connection);
  one.add("worker", i.home);
  one.add("queued", i.queue_depth);
  one.add("queue_capacity", i.queue_capacity);
  one.add("queue_high_water", i.queue_high_water);
  one.add("queue_limit", i.queue_limit);
  one.add("oldest_published_ns", i.oldest_published_ns);
  one.add("published", i.published);
  one.add("delivered", i.delivered);
  one.add("refused", i.refused);
  one.add("dropped_newest", i.dropped_newest);
  one.add("dropped_oldest", i.dropped_oldest);
  one.add("dropped_qos0", i.dropped_qos0);
  one.add("queue_bytes", i.queue_bytes);
  one.add("over_bytes", i.over_bytes);
  one.add("expired_messages", i.expired_messages);
  one.add("subscriptions", i.subscriptions);
  one.add("expiry_s", i.expiry_s);
  one.add("disconnected_ns", i.disconnected_ns);
}

/// Gives a list of values to the reply.
void add_list(dictionary& d, const char* name, rte_tel_data* values) {
  if (rte_tel_data_add_dict_container(d.data(), name, values, 0) == 0) return;
  incomplete = true;
  rte_tel_data_free(values);
}

int session_query(const char*, const char* parameters, rte_tel_data* data) {
  return query(data, [parameters](service& s, dictionary& d) {
    const auto found = find_session(s.broker(), parameters != nullptr ? parameters : "");
    if (!found) return;
    d.add("number", found->number);
    add_session(d, *found);
    rte_tel_data* filters = rte_tel_data_alloc();
    if (filters == nullptr) return void(incomplete = true);
    rte_tel_data_start_array(filters, RTE_TEL_STRING_VAL);
    for (const subscription_info& one : s.broker().subscriptions_of(found->number, 0, page_filters))
      rte_tel_data_add_array_string(filters, escape(one.filter).c_str());
    add_list(d, "filters", filters);
  });
}

int topics_query(const char*, const char* parameters, rte_tel_data* data) {
  return query(data, [parameters](service& s, dictionary& d) {
    std::vector<topic_info> page;
    d.add("next", s.broker().topics(first_of(parameters), page_filters, page));
    // A name in a dictionary may hold only letters, digits, '_' and '/', so these are two lists.
    rte_tel_data* filters = rte_tel_data_alloc();
    rte_tel_data* subscriptions = rte_tel_data_alloc();
    if (filters == nullptr || subscriptions == nullptr) {
      rte_tel_data_free(filters);
      rte_tel_data_free(subscriptions);
      return;
    }
    rte_tel_data_start_array(filters, RTE_TEL_STRING_VAL);
    rte_tel_data_start_array(subscriptions, RTE_TEL_U64_VAL);
    for (const topic_info& t : page) {
      rte_tel_data_add_array_string(filters, escape(t.filter).c_str());
      rte_tel_data_add_array_u64(subscriptions, t.subscriptions);
    }
    add_list(d, "filters", filters);
    add_list(d, "subscriptions", subscriptions);
  });
}

int retained_query(const char*, const char* parameters, rte_tel_data* data) {
  return query(data, [parameters](service& s, dictionary& d) {
    std::vector<retained_info> page;
    d.add("next", s.broker().retained(first_of(parameters), page_filters, page));
    const retained_statistics all = s.broker().retained_counts();
    d.add("messages", all.messages);
    d.add("messages_max", all.messages_max);
    d.add("bytes", all.bytes);
    d.add("bytes_max", all.bytes_max);
    rte_tel_data* topics = rte_tel_data_alloc();
    if (topics == nullptr) return void(incomplete = true);
    rte_tel_data_start_array(topics, RTE_TEL_STRING_VAL);
    for (const retained_info& i : page)
      rte_tel_data_add_array_string(topics, escape(i.topic).c_str());
    add_list(d, "topics", topics);
  });
}

int groups_query(const char*, const char* parameters, rte_tel_data* data) {
  return query(data, [parameters](service& s, dictionary& d) {
    std::vector<group_info> page;
    std::uint32_t next = s.broker().groups(first_of(parameters), page_rows, page);
    listing list(d.data());
    for (const group_info& i : page) {
      if (list.add(std::to_string(i.number), [&](dictionary& one) {
            one.add("name", escape(i.name));
            one.add("filter", escape(i.filter));
            one.add("members", i.members);
            one.add("queue_depth", i.queue_depth);
            one.add("queue_limit", i.queue_limit);
            one.add("queue_high_water", i.queue_high_water);
            one.add("leased", i.leased);
            one.add("refused", i.refused);
          }))
        continue;
      next = i.number;
      break;
    }
    d.add("next", next);
  });
}

int sessions_query(const char*, const char* parameters, rte_tel_data* data) {
  return query(data, [parameters](service& s, dictionary& d) {
    std::vector<session_info> page;
    std::uint32_t next = s.broker().sessions(first_of(parameters), page_rows, page);
    listing list(d.data());
    for (const session_info& i : page) {
      if (list.add(std::to_string(i.number), [&](dictionary& one) { add_session(one, i); }))
        continue;
      next = i.number;
      break;
    }
    d.add("next", next);
  });
}

} // namespace

void register_telemetry(service& s) {
  {
    const std::lock_guard guard(one_query);
    served = &s;
  }
  rte_telemetry_register_cmd("/chainring/region", region_query,
                             "The region's class, space and messages");
  rte_telemetry_register_cmd("/chainring/counters", counters_query,
                             "The counters of the broker and its front end");
  rte_telemetry_register_cmd("/chainring/ports", ports_query,
                             "A page of ports and workers with their counters. The parameter FIRST "
                             "is the 'next' of the page before");
  rte_telemetry_register_cmd("/chainring/rates", rates_query,
                             "What the counters gained in the last second");
  rte_telemetry_register_cmd("/chainring/session", session_query,
                             "Everything about one session. The parameter is its client id");
  rte_telemetry_register_cmd(
      "/chainring/topics", topics_query,
      "A page of filters and how many subscribe to each. The parameter FIRST "
      "is the 'next' of the page before");
  rte_telemetry_register_cmd("/chainring/retained", retained_query,
                             "A page of topics with retained messages. The parameter FIRST is the "
                             "'next' of the page before");
  rte_telemetry_register_cmd("/chainring/groups", groups_query,
                             "A page of groups of shared subscriptions. The parameter FIRST is the "
                             "'next' of the page before");
  rte_telemetry_register_cmd("/chainring/sessions", sessions_query,
                             "A page of sessions with their queues. The parameter FIRST is the "
                             "'next' of the page before; 'next' is 0 at the end");
}

void unregister_telemetry() {
  const std::lock_guard guard(one_query);
  served = nullptr;
}

} // namespace chainring::app
