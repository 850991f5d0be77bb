// SPDX-License-Identifier: BSD-3-Clause
// The queries run on threads of DPDK's telemetry library; all that they read may be read by any
// thread. A reply holds at most 256 entries and 16 KiB, so lists come in pages, and the parameter
// FIRST asks for the next page.
#include "telemetry.h"

#include <cstdlib>
#include <mutex>
#include <rte_telemetry.h>

#include "base/escape.h"
#include "show.h"

namespace chainring::app {

namespace {

std::mutex one_query; // it also keeps the service alive during a query
service* served = nullptr;
constexpr std::size_t page_sessions = 32;
constexpr std::size_t page_filters = 64;

void add(rte_tel_data* d, const char* name, std::uint64_t value) {
  rte_tel_data_add_dict_u64(d, name, value);
}

template <class F> int query(rte_tel_data* d, F&& fill) {
  const std::lock_guard guard(one_query);
  rte_tel_data_start_dict(d);
  if (served == nullptr) return -1;
  fill(*served);
  return 0;
}

int region_query(const char*, const char*, rte_tel_data* d) {
  return query(d, [d](service& s) {
    chainring::region& r = s.broker().region();
    const block_store_statistics b = s.broker().block_statistics();
    const message_table_statistics m = s.broker().message_statistics();
    rte_tel_data_add_dict_string(d, "path", escape(r.medium().path()).c_str());
    rte_tel_data_add_dict_string(d, "class", to_string(r.medium().durability()));
    rte_tel_data_add_dict_string(d, "driver", r.medium().driver_name());
    rte_tel_data_add_dict_string(d, "uuid", r.uuid().c_str());
    add(d, "size", r.medium().size());
    add(d, "opened", r.incarnation());
    add(d, "failed", r.medium().failed());
    add(d, "block_size", b.block_size);
    add(d, "blocks", b.block_count);
    add(d, "blocks_free", b.free_blocks);
    add(d, "blocks_live", b.live_blocks);
    add(d, "largest_free_run", b.largest_run);
    add(d, "messages_live", m.live);
    add(d, "messages_max", m.descriptors);
    add(d, "messages_damaged", m.damaged);
    add(d, "lost_pages", r.medium().lost_pages());
    add(d, "blocks_withheld", b.withheld_blocks);
  });
}

int counters_query(const char*, const char*, rte_tel_data* d) {
  return query(d, [d](service& s) {
    for_each_counter(s.broker().counters(),
                     [d](const char* name, std::uint64_t value) { add(d, name, value); });
    mqttsn::for_each_counter(s.gateway().counters(),
                             [d](const char* name, std::uint64_t value) { add(d, name, value); });
    add(d, "sessions", s.broker().session_count());
    add(d, "subscriptions", s.broker().subscription_count());
  });
}

int rates_query(const char*, const char*, rte_tel_data* d) {
  return query(d, [d](service& s) {
    (void)s.sampled_rates().for_each([d](const char* name, double per_second) {
      add(d, name, static_cast<std::uint64_t>(per_second + 0.5));
    });
  });
}

int ports_query(const char*, const char*, rte_tel_data* d) {
  return query(d, [d](service& s) {
    for (const auto& i : s.interfaces())
      for (std::size_t r = 1; r < net::drop_reason_count; ++r) {
        std::uint64_t n = 0;
        const auto reason = static_cast<net::drop_reason>(r);
        for (const auto& w : s.workers())
          n += s.listener(w->number).links()[i->config.interface_id]->drops()[reason];
        if (n == 0) continue;
        const std::string name =
            "port" + std::to_string(i->device.id()) + "_dropped_" + net::to_string(reason);
        add(d, name.c_str(), n);
      }
    for (const auto& i : s.interfaces()) {
      const std::string name = "port" + std::to_string(i->device.id());
      std::uint64_t reassembled = 0;
      for (const auto& w : s.workers())
        reassembled += s.listener(w->number).links()[i->config.interface_id]->reassembled();
      add(d, (name + "_reassembled").c_str(), reassembled);
      add(d, (name + "_neighbours_evicted").c_str(), i->arp->evicted());
    }
    for (const auto& w : s.workers()) {
      const std::string name = "worker" + std::to_string(w->number);
      add(d, (name + "_handed_over").c_str(), s.listener(w->number).handed_over());
      add(d, (name + "_handed_dropped").c_str(), s.listener(w->number).handed_dropped());
      add(d, (name + "_answers_dropped").c_str(), s.listener(w->number).out().dropped());
      std::uint64_t stalls = 0;
      for (const auto& l : s.listener(w->number).links())
        stalls += l->tx().stalls();
      add(d, (name + "_transmit_stalls").c_str(), stalls);
      add(d, (name + "_rounds").c_str(), w->rounds.value());
      add(d, (name + "_idle_rounds").c_str(), w->idle_rounds.value());
    }
  });
}

/// Adds everything about a session to a dictionary.
void add_session(rte_tel_data* one, const session_info& i) {
  rte_tel_data_add_dict_string(one, "client", escape(i.identity).c_str());
  rte_tel_data_add_dict_string(one, "address",
                               i.address == client_address{}
                                   ? ""
                                   : net::to_string(net::endpoint::from_key(i.address)).c_str());
  add(one, "connected", i.connected);
  add(one, "clean", i.ends_with_connection);
  add(one, "worker", i.home);
  add(one, "queued", i.queue_depth);
  add(one, "queue_capacity", i.queue_capacity);
  add(one, "queue_high_water", i.queue_high_water);
  add(one, "queue_limit", i.queue_limit);
  add(one, "oldest_published_ns", i.oldest_published_ns);
  add(one, "published", i.published);
  add(one, "delivered", i.delivered);
  add(one, "refused", i.refused);
  add(one, "dropped_newest", i.dropped_newest);
  add(one, "dropped_oldest", i.dropped_oldest);
  add(one, "dropped_qos0", i.dropped_qos0);
  add(one, "queue_bytes", i.queue_bytes);
  add(one, "over_bytes", i.over_bytes);
  add(one, "expired_messages", i.expired_messages);
  add(one, "subscriptions", i.subscriptions);
  add(one, "expiry_s", i.expiry_s);
  add(one, "disconnected_ns", i.disconnected_ns);
}

std::uint32_t first_of(const char* parameters) {
  return static_cast<std::uint32_t>(parameters != nullptr ? std::strtoul(parameters, nullptr, 10)
                                                          : 0);
}

int session_query(const char*, const char* parameters, rte_tel_data* d) {
  return query(d, [d, parameters](service& s) {
    const auto found = find_session(s.broker(), parameters != nullptr ? parameters : "");
    if (!found) return;
    add(d, "number", found->number);
    add_session(d, *found);
    rte_tel_data* filters = rte_tel_data_alloc();
    if (filters == nullptr) return;
    rte_tel_data_start_array(filters, RTE_TEL_STRING_VAL);
    for (const subscription_info& one : s.broker().subscriptions_of(found->number, 0, page_filters))
      rte_tel_data_add_array_string(filters, escape(one.filter).c_str());
    rte_tel_data_add_dict_container(d, "filters", filters, 0);
  });
}

int topics_query(const char*, const char* parameters, rte_tel_data* d) {
  return query(d, [d, parameters](service& s) {
    std::vector<topic_info> page;
    add(d, "next", s.broker().topics(first_of(parameters), page_filters, page));
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
    rte_tel_data_add_dict_container(d, "filters", filters, 0);
    rte_tel_data_add_dict_container(d, "subscriptions", subscriptions, 0);
  });
}

int retained_query(const char*, const char* parameters, rte_tel_data* d) {
  return query(d, [d, parameters](service& s) {
    std::vector<retained_info> page;
    add(d, "next", s.broker().retained(first_of(parameters), page_filters, page));
    const retained_statistics all = s.broker().retained_counts();
    add(d, "messages", all.messages);
    add(d, "messages_max", all.messages_max);
    add(d, "bytes", all.bytes);
    add(d, "bytes_max", all.bytes_max);
    rte_tel_data* topics = rte_tel_data_alloc();
    if (topics == nullptr) return;
    rte_tel_data_start_array(topics, RTE_TEL_STRING_VAL);
    for (const retained_info& i : page)
      rte_tel_data_add_array_string(topics, escape(i.topic).c_str());
    rte_tel_data_add_dict_container(d, "topics", topics, 0);
  });
}

int groups_query(const char*, const char* parameters, rte_tel_data* d) {
  return query(d, [d, parameters](service& s) {
    std::vector<group_info> page;
    add(d, "next", s.broker().groups(first_of(parameters), page_sessions, page));
    for (const group_info& i : page) {
      rte_tel_data* one = rte_tel_data_alloc();
      if (one == nullptr) break;
      rte_tel_data_start_dict(one);
      rte_tel_data_add_dict_string(one, "name", escape(i.name).c_str());
      rte_tel_data_add_dict_string(one, "filter", escape(i.filter).c_str());
      add(one, "members", i.members);
      add(one, "queue_depth", i.queue_depth);
      add(one, "queue_limit", i.queue_limit);
      add(one, "queue_high_water", i.queue_high_water);
      add(one, "leased", i.leased);
      add(one, "refused", i.refused);
      rte_tel_data_add_dict_container(d, std::to_string(i.number).c_str(), one, 0);
    }
  });
}

int sessions_query(const char*, const char* parameters, rte_tel_data* d) {
  return query(d, [d, parameters](service& s) {
    std::vector<session_info> page;
    const std::uint32_t next = s.broker().sessions(first_of(parameters), page_sessions, page);
    add(d, "next", next);
    for (const session_info& i : page) {
      rte_tel_data* one = rte_tel_data_alloc();
      if (one == nullptr) break;
      rte_tel_data_start_dict(one);
      add_session(one, i);
      rte_tel_data_add_dict_container(d, std::to_string(i.number).c_str(), one, 0);
    }
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
                             "Drops by reason, and frames handed over between workers");
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
