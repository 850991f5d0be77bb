// SPDX-License-Identifier: BSD-3-Clause
// Every media driver linked in, and what each says to a file it cannot open: a program linked with
// the archive must not have lost one.   drivers DIRECTORY
#include <chainring/chainring.h>
#include <cstdio>
#include <string>

int main(int argc, char** argv) {
  if (argc != 2) return 2;
  for (const chainring::media_driver* d : chainring::media_drivers()) {
    chainring::media_options o;
    o.path = std::string(argv[1]) + "/absent";
    o.driver = d->name;
    auto m = chainring::open_media(o);
    std::printf("%s: %s\n", d->name, m ? "opened" : m.error().message.c_str());
  }
}
