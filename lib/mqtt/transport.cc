// SPDX-License-Identifier: BSD-3-Clause
#include "mqtt/transport.h"

namespace chainring::mqtt {

result<void> transport::attach(const server_config& config,
                               std::span<const std::unique_ptr<net::link>> links, rte_mempool* pool,
                               stream::byte_stream_handler& above) {
  packets_.emplace(links, pool);
  // Each layer is told above which one it stands once that one is made.
  stream::byte_stream_handler* next = &above;
  websocket::layer_options web;
  web.origins = config.websocket_origins;
  web.connections_max = config.tcp.connections_max;
  for (const listener_config& l : config.listeners)
    if (l.websocket) web.endpoints.push_back({.port = l.port, .path = l.path});
  if (!web.endpoints.empty()) {
    auto layer = websocket::layer::create(web, *next);
    if (!layer) return layer.error();
    websocket_ = std::move(*layer);
    next = websocket_.get();
  }
  tls::layer_options secure;
  secure.connections_max = config.tcp.connections_max;
  for (const listener_config& l : config.listeners)
    if (l.tls) secure.endpoints.push_back({.port = l.port, .websocket = l.websocket});
  if (!secure.endpoints.empty() || config.check_passwords) {
    auto crew = stream::helper_crew::create(config.helper_threads, config.helper_jobs_max);
    if (!crew) return crew.error();
    helpers_ = std::move(*crew);
  }
  if (!secure.endpoints.empty()) {
    auto layer = tls::layer::create(secure, *helpers_, *next);
    if (!layer) return layer.error();
    tls_ = std::move(*layer);
    next = tls_.get();
    if (auto loaded = load_certificates(config); !loaded) return loaded.error();
  }
  auto made = stream::tcp_stack::create(config.tcp, *next, *packets_);
  if (!made) return made.error();
  stack_ = std::move(*made);
  top_ = stack_.get();
  if (tls_ != nullptr) {
    tls_->use(*top_);
    top_ = tls_.get();
  }
  if (websocket_ != nullptr) {
    websocket_->use(*top_);
    top_ = websocket_.get();
  }
  if (auto added = packets_->add_interfaces(*stack_); !added) return added.error();
  for (const listener_config& l : config.listeners)
    if (auto listening = stack_->listen(l.port, l.address); !listening) return listening.error();
  packets_->attach(*stack_);
  return {};
}

result<void> transport::load_certificates(const server_config& config) {
  if (tls_ == nullptr) return {};
  auto loaded = tls::context::load(config.tls);
  if (!loaded) return loaded.error();
  tls_->use(std::move(*loaded));
  return {};
}

} // namespace chainring::mqtt
