// rtnetlink(7): where a packet would go, asked synchronously, and a thread that tells when the answer may have changed.
// Addresses are native-order loads of the four network bytes.
#pragma once

#include <linux/netlink.h>

#include <array>
#include <functional>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "fd.h"

namespace lb4 {

using Mac = std::array<uint8_t, 6>;

struct Route {
  int32_t ifindex = 0;
  uint32_t neighbour = 0;
  uint32_t source = 0;
  uint32_t mtu = 0;
  bool local = false;
};

struct Interface {
  int32_t index = 0;
  std::string name;
  uint32_t mtu = 0;
  std::optional<Mac> mac;
  bool up = false;
};

class RouteSocket {
 public:
  RouteSocket();

  Route route(uint32_t destination, uint32_t source);
  std::optional<Mac> neighbour(int32_t ifindex, uint32_t address);
  std::vector<Interface> interfaces();

 private:
  using Handler = std::function<void(const nlmsghdr*)>;
  // Sends one request and hands every answer to `each`. Returns 0 or the errno the kernel answered with.
  int ask(nlmsghdr* request, const Handler& each);
  // Takes one datagram's answers; true once the exchange is over.
  bool take(size_t bytes, const Handler& each, int& error);
  uint32_t linkMtu(int32_t ifindex);

  Fd fd_;
  uint32_t sequence_ = 0;
  std::vector<char> buffer_;
};

// Calls `changed` on its own thread, 10 ms after links, neighbours, addresses or routes began to change, and so at most
// every 10 ms. `changed` returns false when it wants no more calls.
class RouteWatcher {
 public:
  explicit RouteWatcher(std::function<bool()> changed);
  ~RouteWatcher();

 private:
  void run();

  std::function<bool()> changed_;
  Fd fd_;
  Fd stop_;
  std::thread thread_;  // last: it uses all the above
};

}  // namespace lb4
