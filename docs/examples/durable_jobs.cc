// SPDX-License-Identifier: BSD-3-Clause
// This program keeps jobs that survive whatever ends it:
//   c++ -std=c++20 durable_jobs.cc $(pkg-config --cflags --libs libchainring)
//   ./a.out /var/tmp/jobs add "water the plants"
//   ./a.out /var/tmp/jobs next                       says the job, and keeps it
//   ./a.out /var/tmp/jobs done                       ends it
#include <chainring/chainring.h>
#include <cstdio>
#include <cstring>

using jobs = chainring::queue<std::string>;

int main(int argc, char** argv) {
  const char* what = argc < 3 ? "" : argv[2];
  const bool add = std::strcmp(what, "add") == 0 && argc == 4;
  if (!add && std::strcmp(what, "next") != 0 && std::strcmp(what, "done") != 0) {
    std::fprintf(stderr, "usage: %s REGION add JOB | next | done\n", argv[0]);
    return 2;
  }
  auto opened = chainring::objects::open_or_create(argv[1], chainring::durable<jobs>{"jobs", 100});
  if (!opened) {
    std::fprintf(stderr, "%s\n", opened.error().message.c_str());
    return 1;
  }
  jobs all = (*opened)->get<jobs>("jobs").value();
  if (add) {
    if (const auto s = all.enqueue(argv[3]); s != chainring::queue_status::done) {
      std::fprintf(stderr, "the job was not added: the queue is %s\n", to_string(s));
      return 1;
    }
  } else if (auto job = all.take()) { // given back at the end of this block, unless it is done
    std::printf("%s\n", job->value().c_str());
    if (std::strcmp(what, "done") == 0) job->done();
  } else {
    std::printf("nothing to do\n");
  }
  auto& region = (*opened)->region();
  return region.wait(region.mark()) && (*opened)->close() ? 0 : 1; // durable in every class
}
