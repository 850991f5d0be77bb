// SPDX-License-Identifier: BSD-3-Clause
// This program places orders, each of which is placed once, whatever ends the program and however
// often it is started again with the same number:
//   c++ -std=c++20 durable_orders.cc $(pkg-config --cflags --libs libchainring)
//   ./a.out /var/tmp/orders 7 1 "two bolts"        the first order of customer 7
//   ./a.out /var/tmp/orders 7 1 "two bolts"        says that it is placed already
//   ./a.out /var/tmp/orders next                   takes the oldest order out
#include <chainring/chainring.h>
#include <cstdio>
#include <cstdlib>
#include <cstring>

using orders = chainring::queue<std::string>;
using chainring::operation_outcome, chainring::queue_status;

int main(int argc, char** argv) {
  const bool next = argc == 3 && std::strcmp(argv[2], "next") == 0;
  if (!next && argc != 5) {
    std::fprintf(stderr, "usage: %s REGION CUSTOMER NUMBER ORDER | next\n", argv[0]);
    return 2;
  }
  // Of each of up to 50 customers the queue remembers the last order.
  auto opened = chainring::objects::open_or_create(
      argv[1], chainring::durable<orders>{.name = "orders", .entries = 100, .clients = 50});
  if (!opened) {
    std::fprintf(stderr, "%s\n", opened.error().message.c_str());
    return 1;
  }
  orders all = (*opened)->get<orders>("orders").value();
  if (next) {
    const auto order = all.dequeue();
    std::printf("%s\n", order ? order->c_str() : "no order");
  } else {
    const chainring::operation_id id{
        .client = static_cast<std::uint32_t>(std::strtoul(argv[2], nullptr, 10)),
        .sequence = std::strtoull(argv[3], nullptr, 10)};
    if (!id.valid()) {
      std::fprintf(stderr, "the number of an order is 1 to 2^48 - 1\n");
      return 2;
    }
    const queue_status done = all.enqueue(id, argv[4]);
    if (done != queue_status::done && done != queue_status::repeated) {
      std::fprintf(stderr, "the order was not placed: the queue is %s\n", to_string(done));
      return 1;
    }
    // The customer could also have asked first, without a repetition.
    const bool last = all.resolve(id) == operation_outcome::took_effect;
    std::printf("%s%s\n", done == queue_status::done ? "placed" : "placed already",
                last ? "" : ", and so was a later one");
  }
  auto& region = (*opened)->region();
  return region.wait(region.mark()) && (*opened)->close() ? 0 : 1; // durable in every class
}
