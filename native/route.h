// rtnetlink(7): where a packet would go, asked synchronously, and a thread that tells when the answer may have changed.
// Addresses are native-order loads of the four network bytes.
#pragma once

#include <linux/netlink.h>

#include <array>
#include <functional>
#include <optional>
#include <string>
#include <thread>
#include <variant>
#include <vector>

#include "fd.h"

namespace lb4 {

using Mac = std::array<uint8_t, 6>;

// An IPv4 address, or all 16 bytes of an IPv6 one.
using Address = std::variant<uint32_t, std::array<uint8_t, 16>>;

// What the kernel does with a packet: RTN_* of rtnetlink(7) by name, or why there is no answer.
enum class RouteKind {
  unicast,
  local,
  broadcast,
  multicast,
  blackhole,
  prohibit,
  unreachable,
  none,    // no route at all
  source,  // the source is no address of this host
};

struct Route {
  RouteKind kind = RouteKind::none;
  int32_t ifindex = 0;
  Address neighbour = uint32_t{0};
  uint32_t source = 0;
  uint32_t mtu = 0;      // with what ICMP errors made the kernel believe
  uint32_t own_mtu = 0;  // without it: the route's, or the link's
  bool learnt = false;   // the two may differ
  std::vector<int32_t> links;  // of all next hops, where there are several (RTA_MULTIPATH)
  bool encapsulated = false;  // the kernel would wrap packets (RTA_ENCAP: MPLS, SRv6, tunnels by route)
};

struct Interface {
  int32_t index = 0;
  std::string name;
  uint32_t mtu = 0;
  std::optional<Mac> mac;
  std::string kind;  // "bridge", "veth" …; empty for plain hardware
  int32_t master = 0;  // the interface that takes its frames (bridge, bond, VRF); 0: none
  int32_t link = 0;    // the interface that its frames go by (of a VLAN, a macvlan), or a veth's other end; 0: none
  bool calls_iptables = false;
  bool up = false;       // administratively (IFF_UP)
  bool carrier = false;  // and frames leave: operationally up (IFF_RUNNING)
};

class RouteSocket {
 public:
  RouteSocket();

  // `port`: the destination's in host order, `protocol`: its number; 0: a packet of none in particular.
  Route route(uint32_t destination, uint32_t source, uint16_t port, uint8_t protocol);
  // The interfaces of all next hops of the same route; one where there is one, none where nothing leads there.
  std::vector<int32_t> links(uint32_t destination, uint32_t source, uint16_t port, uint8_t protocol);
  std::optional<Mac> neighbour(int32_t ifindex, const Address& address);
  // Whether the kernel has asked for a neighbour, and nobody has answered.
  bool isSilent(int32_t ifindex, const Address& address);
  // Has the kernel find out whether a neighbour is (still) there, as if it had a packet for it.
  void solicit(int32_t ifindex, const Address& address);
  std::vector<Interface> interfaces();

 private:
  using Handler = std::function<void(const nlmsghdr*)>;
  // What the kernel knows of a neighbour; NUD_NONE where it has no entry.
  struct Entry {
    uint16_t state = 0;
    std::optional<Mac> mac;
  };
  Entry entry(int32_t ifindex, const Address& address);
  // Sends one request and hands every answer to `each`. Returns 0 or the errno the kernel answered with.
  int ask(nlmsghdr* request, const Handler& each);
  // Takes one datagram's answers; true once the exchange is over.
  bool take(size_t bytes, const Handler& each, int& error);
  // Asks RTM_GETROUTE; the answer's type, or the errno that stands for one. `flags`: RTM_F_*.
  int askRoute(uint32_t destination, uint32_t source, uint16_t port, uint8_t protocol, Route& route, uint32_t flags = 0);
  uint32_t linkMtu(int32_t ifindex);
  uint32_t ownMtu(const Route& route, uint32_t destination, uint32_t source, uint16_t port, uint8_t protocol);

  Fd fd_;
  uint32_t sequence_ = 0;
  std::vector<char> buffer_;
};

// Calls `changed` on its own thread, 10 ms after links, neighbours (of both families), addresses, routes, rules or nexthop objects began to change, and so at most
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
