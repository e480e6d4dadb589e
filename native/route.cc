#include "route.h"

#include <arpa/inet.h>
#include <linux/if.h>
#include <linux/if_arp.h>
#include <linux/neighbour.h>
#include <linux/rtnetlink.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>

#include <algorithm>

namespace lb4 {
namespace {

constexpr size_t ANSWER_BYTES = 64 * 1024;  // a dump's datagrams are 32 KB at most (netlink_dump)
constexpr int COALESCE_MS = 10;
constexpr uint32_t NEXTHOPS = 1u << (RTNLGRP_NEXTHOP - 1);  // as the RTMGRP_ constants are made; it has none (Linux 5.3)

// A request: header, body, and room for a few address attributes.
template <class Body>
struct Request {
  nlmsghdr header{};
  Body body{};
  alignas(4) char attributes[64] = {};

  Request(uint16_t type, uint16_t flags) {
    header.nlmsg_len = NLMSG_LENGTH(sizeof(Body));
    header.nlmsg_type = type;
    header.nlmsg_flags = static_cast<uint16_t>(NLM_F_REQUEST | flags);
  }

  template <class Value>
  void add(uint16_t type, const Value& value) {
    char* const at = reinterpret_cast<char*>(this) + NLMSG_ALIGN(header.nlmsg_len);
    const rtattr attribute = {RTA_LENGTH(sizeof value), type};
    std::memcpy(at, &attribute, sizeof attribute);
    std::memcpy(at + RTA_LENGTH(0), &value, sizeof value);
    header.nlmsg_len = NLMSG_ALIGN(header.nlmsg_len) + RTA_SPACE(sizeof value);
  }
};

Fd netlink(uint32_t groups) {
  Fd fd(check(::socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE), "socket(NETLINK_ROUTE)"));
  sockaddr_nl self{};
  self.nl_family = AF_NETLINK;
  self.nl_groups = groups;
  check(::bind(fd.get(), reinterpret_cast<sockaddr*>(&self), sizeof self), "bind(NETLINK_ROUTE)");
  return fd;
}

uint32_t word(const rtattr* attribute) {
  uint32_t value = 0;
  std::memcpy(&value, RTA_DATA(attribute), std::min(sizeof value, size_t{RTA_PAYLOAD(attribute)}));
  return value;
}

template <class Visit>
void eachAttribute(const rtattr* attribute, uint32_t bytes, Visit visit) {
  int left = static_cast<int>(bytes);
  for (; RTA_OK(attribute, left); attribute = RTA_NEXT(attribute, left)) visit(attribute);
}

template <class Visit>
void eachNested(const rtattr* attribute, Visit visit) {
  eachAttribute(static_cast<const rtattr*>(RTA_DATA(attribute)), RTA_PAYLOAD(attribute), visit);
}

template <class Body, class Visit>
const Body* parse(const nlmsghdr* message, Visit visit) {
  const Body* const body = static_cast<const Body*>(NLMSG_DATA(message));
  const char* const first = reinterpret_cast<const char*>(body) + NLMSG_ALIGN(sizeof(Body));
  eachAttribute(reinterpret_cast<const rtattr*>(first), NLMSG_PAYLOAD(message, sizeof(Body)), visit);
  return body;
}

uint32_t metricMtu(const rtattr* metrics) {
  uint32_t mtu = 0;
  eachNested(metrics, [&](const rtattr* metric) {
    if (metric->rta_type == RTAX_MTU) mtu = word(metric);
  });
  return mtu;
}

// Whether an answer's MTU is one that the kernel has learnt, for a while (rt_fill_info); a route's own never expires.
bool expires(const rtattr* attribute) {
  rta_cacheinfo info{};
  std::memcpy(&info, RTA_DATA(attribute), std::min(sizeof info, size_t{RTA_PAYLOAD(attribute)}));
  return info.rta_expires != 0;
}

std::optional<Mac> macOf(const rtattr* attribute) {
  Mac mac;
  if (RTA_PAYLOAD(attribute) != mac.size()) return std::nullopt;
  std::memcpy(mac.data(), RTA_DATA(attribute), mac.size());
  return mac;
}

// RTA_VIA: a gateway of another family than the destination's, family (2 bytes) and address (struct rtvia).
std::optional<Address> viaOf(const rtattr* attribute) {
  uint16_t family = 0;
  std::array<uint8_t, 16> address;
  if (RTA_PAYLOAD(attribute) < sizeof family + address.size()) return std::nullopt;
  std::memcpy(&family, RTA_DATA(attribute), sizeof family);
  if (family != AF_INET6) return std::nullopt;
  std::memcpy(address.data(), static_cast<const char*>(RTA_DATA(attribute)) + sizeof family, address.size());
  return address;
}

// rtnetlink(7), RTA_MULTIPATH: a struct rtnexthop each, with attributes of its own behind it.
std::vector<int32_t> linksOf(const rtattr* attribute) {
  std::vector<int32_t> links;
  const auto* next = static_cast<const rtnexthop*>(RTA_DATA(attribute));
  int left = static_cast<int>(RTA_PAYLOAD(attribute));
  while (left >= static_cast<int>(sizeof *next) && RTNH_OK(next, left)) {
    links.push_back(next->rtnh_ifindex);
    left -= static_cast<int>(RTNH_ALIGN(next->rtnh_len));
    next = RTNH_NEXT(next);
  }
  return links;
}

RouteKind kindOf(uint8_t type) {
  switch (type) {
    case RTN_UNICAST: return RouteKind::unicast;
    case RTN_LOCAL: return RouteKind::local;
    case RTN_ANYCAST:
    case RTN_BROADCAST: return RouteKind::broadcast;
    case RTN_MULTICAST: return RouteKind::multicast;
    case RTN_BLACKHOLE: return RouteKind::blackhole;
    case RTN_PROHIBIT: return RouteKind::prohibit;
    case RTN_UNREACHABLE: return RouteKind::unreachable;
    default: return RouteKind::none;
  }
}

// The kernel's answer is one way, also where there are several (RTA_MULTIPATH, nexthop objects): what a flow between these
// two addresses would take, next hops that are dead left out (fib_select_path).
Route parseRoute(const nlmsghdr* message, uint32_t destination) {
  Route route;
  route.neighbour = destination;
  const rtmsg* const body = parse<rtmsg>(message, [&](const rtattr* attribute) {
    switch (attribute->rta_type) {
      case RTA_OIF: route.ifindex = static_cast<int32_t>(word(attribute)); break;
      case RTA_GATEWAY: route.neighbour = word(attribute); break;
      case RTA_VIA: route.neighbour = viaOf(attribute).value_or(route.neighbour); break;
      case RTA_PREFSRC: route.source = word(attribute); break;
      case RTA_METRICS: route.mtu = metricMtu(attribute); break;
      case RTA_CACHEINFO: route.learnt = expires(attribute); break;
      case RTA_MULTIPATH: route.links = linksOf(attribute); break;
      case RTA_ENCAP_TYPE: route.encapsulated = true; break;
    }
  });
  route.kind = kindOf(body->rtm_type);
  return route;
}

std::string text(const rtattr* attribute) {
  const char* const first = static_cast<const char*>(RTA_DATA(attribute));
  return {first, ::strnlen(first, RTA_PAYLOAD(attribute))};
}

// IFLA_LINKINFO: the kind, then what only links of that kind have. IFLA_BR_NF_CALL_IPTABLES is a u8.
void parseLinkInfo(const rtattr* info, Interface& link) {
  eachNested(info, [&](const rtattr* attribute) {
    if (attribute->rta_type == IFLA_INFO_KIND) link.kind = text(attribute);
    if (attribute->rta_type != IFLA_INFO_DATA || link.kind != "bridge") return;
    eachNested(attribute, [&](const rtattr* own) {
      if (own->rta_type == IFLA_BR_NF_CALL_IPTABLES) link.calls_iptables = word(own) != 0;
    });
  });
}

Interface parseLink(const nlmsghdr* message) {
  Interface link;
  std::optional<Mac> mac;
  const ifinfomsg* const body = parse<ifinfomsg>(message, [&](const rtattr* attribute) {
    switch (attribute->rta_type) {
      case IFLA_IFNAME: link.name = static_cast<const char*>(RTA_DATA(attribute)); break;
      case IFLA_MTU: link.mtu = word(attribute); break;
      case IFLA_MASTER: link.master = static_cast<int32_t>(word(attribute)); break;
      case IFLA_LINK: link.link = static_cast<int32_t>(word(attribute)); break;
      case IFLA_ADDRESS: mac = macOf(attribute); break;
      case IFLA_LINKINFO: parseLinkInfo(attribute, link); break;
    }
  });
  link.index = body->ifi_index;
  // Six bytes alone do not make Ethernet (an InfiniBand or tunnel address may have any length): the type decides.
  if (body->ifi_type == ARPHRD_ETHER || body->ifi_type == ARPHRD_LOOPBACK) link.mac = mac;
  link.up = body->ifi_flags & IFF_UP;
  link.carrier = body->ifi_flags & IFF_RUNNING;
  return link;
}

// "There is no way there", as the kernel says it of a route that leads nowhere (fib_props), or where there is none.
std::optional<RouteKind> kindOfError(int error) {
  switch (error) {
    case EINVAL: return RouteKind::blackhole;
    case EACCES: return RouteKind::prohibit;
    case EHOSTUNREACH: return RouteKind::unreachable;
    case ENETUNREACH: return RouteKind::none;
    default: return std::nullopt;
  }
}

}  // namespace

RouteSocket::RouteSocket() : fd_(netlink(0)), buffer_(ANSWER_BYTES) {}

int RouteSocket::ask(nlmsghdr* request, const Handler& each) {
  request->nlmsg_seq = ++sequence_;
  check(static_cast<int>(::send(fd_.get(), request, request->nlmsg_len, 0)), "send(NETLINK_ROUTE)");
  for (int error = 0;;) {
    const ssize_t bytes = ::recv(fd_.get(), buffer_.data(), buffer_.size(), 0);
    if (bytes < 0 && errno == EINTR) continue;
    check(static_cast<int>(bytes), "recv(NETLINK_ROUTE)");
    if (take(static_cast<size_t>(bytes), each, error)) return error;
  }
}

// netlink(7): an answer is one message, or a series flagged MULTI that DONE ends; ERROR carries -errno.
bool RouteSocket::take(size_t bytes, const Handler& each, int& error) {
  auto left = static_cast<uint32_t>(bytes);
  auto* message = reinterpret_cast<const nlmsghdr*>(buffer_.data());
  for (; NLMSG_OK(message, left); message = NLMSG_NEXT(message, left)) {
    if (message->nlmsg_seq != sequence_) continue;  // left over from an exchange that threw
    if (message->nlmsg_type == NLMSG_DONE) return true;
    if (message->nlmsg_type == NLMSG_ERROR) {
      error = -static_cast<const nlmsgerr*>(NLMSG_DATA(message))->error;
      return true;
    }
    each(message);
    if (!(message->nlmsg_flags & NLM_F_MULTI)) return true;
  }
  return false;
}

// Protocol and ports serve rules (ip-rule(8): ipproto, dport) and hashes over ports; a kernel before 4.18 passes over them.
int RouteSocket::askRoute(uint32_t destination, uint32_t source, uint16_t port, uint8_t protocol, Route& route,
                          uint32_t flags) {
  Request<rtmsg> request(RTM_GETROUTE, 0);
  request.body.rtm_family = AF_INET;
  request.body.rtm_dst_len = 32;
  request.body.rtm_flags = flags;
  request.add(RTA_DST, destination);
  if (source != 0) {
    request.body.rtm_src_len = 32;
    request.add(RTA_SRC, source);
  }
  if (protocol != 0) request.add(RTA_IP_PROTO, protocol);
  if (port != 0) request.add(RTA_DPORT, htons(port));
  return ask(&request.header, [&](const nlmsghdr* message) { route = parseRoute(message, destination); });
}

Route RouteSocket::route(uint32_t destination, uint32_t source, uint16_t port, uint8_t protocol) {
  Route route;
  const int error = askRoute(destination, source, port, protocol, route);
  if (error != 0) {
    const std::optional<RouteKind> kind = kindOfError(error);
    if (!kind) throw SystemError(error, "RTM_GETROUTE");
    route = Route{};
    route.kind = *kind;
    // A source that is not ours is refused by the same errnos.
    Route own;
    if (source != 0 && (askRoute(source, 0, 0, 0, own) != 0 || own.kind != RouteKind::local)) route.kind = RouteKind::source;
    return route;
  }
  // Asked with a source, the kernel answers with that one alone (RTA_SRC, no RTA_PREFSRC).
  if (route.source == 0) route.source = source;
  if (route.mtu == 0 && route.ifindex != 0) route.mtu = linkMtu(route.ifindex);
  route.own_mtu = route.learnt ? ownMtu(route, destination, source, port, protocol) : route.mtu;
  return route;
}

// RTM_F_FIB_MATCH as below. A kernel before 4.13 answers with what it has learnt once more: then the link's.
uint32_t RouteSocket::ownMtu(const Route& route, uint32_t destination, uint32_t source, uint16_t port, uint8_t protocol) {
  Route own;
  const int error = askRoute(destination, source, port, protocol, own, RTM_F_FIB_MATCH);
  if (error == 0 && !own.learnt && own.mtu != 0) return own.mtu;
  return route.ifindex != 0 ? linkMtu(route.ifindex) : 0;
}

// RTM_F_FIB_MATCH: the route itself rather than the way of one flow (Linux 4.13; before, one next hop's). Of a nexthop object with
// several hops as well, as long as net.ipv4.nexthop_compat_mode is 1, as it is of itself.
std::vector<int32_t> RouteSocket::links(uint32_t destination, uint32_t source, uint16_t port, uint8_t protocol) {
  Route route;
  const int error = askRoute(destination, source, port, protocol, route, RTM_F_FIB_MATCH);
  if (error != 0 && !kindOfError(error)) throw SystemError(error, "RTM_GETROUTE");
  if (error == 0 && route.links.empty() && route.ifindex != 0) route.links.push_back(route.ifindex);
  return route.links;
}

uint32_t RouteSocket::linkMtu(int32_t ifindex) {
  Request<ifinfomsg> request(RTM_GETLINK, 0);
  request.body.ifi_index = ifindex;
  uint32_t mtu = 0;
  const int error = ask(&request.header, [&](const nlmsghdr* message) { mtu = parseLink(message).mtu; });
  if (error != 0) throw SystemError(error, "RTM_GETLINK");
  return mtu;
}

RouteSocket::Entry RouteSocket::entry(int32_t ifindex, const Address& address) {
  Request<ndmsg> request(RTM_GETNEIGH, 0);
  request.body.ndm_family = std::holds_alternative<uint32_t>(address) ? AF_INET : AF_INET6;
  request.body.ndm_ifindex = ifindex;
  std::visit([&](const auto& value) { request.add(NDA_DST, value); }, address);
  Entry entry;
  const int error = ask(&request.header, [&](const nlmsghdr* message) {
    entry.state = parse<ndmsg>(message, [&](const rtattr* attribute) {
                    if (attribute->rta_type == NDA_LLADDR) entry.mac = macOf(attribute);
                  })->ndm_state;
  });
  if (error == ENOENT || error == ENODEV) return {};
  if (error != 0) throw SystemError(error, "RTM_GETNEIGH");
  return entry;
}

std::optional<Mac> RouteSocket::neighbour(int32_t ifindex, const Address& address) {
  const Entry found = entry(ifindex, address);
  // NUD_VALID of the kernel (include/net/neighbour.h): all states in which it would send; INCOMPLETE and FAILED are not.
  constexpr uint16_t VALID = NUD_REACHABLE | NUD_STALE | NUD_DELAY | NUD_PROBE | NUD_PERMANENT | NUD_NOARP;
  return found.state & VALID ? found.mac : std::nullopt;
}

bool RouteSocket::isSilent(int32_t ifindex, const Address& address) { return entry(ifindex, address).state & NUD_FAILED; }

// NTF_USE (neigh_add in net/core/neighbour.c): an entry that is STALE is probed after a moment, one that is FAILED or was not there asked for.
// All others need nothing, and a permanent one would no longer be (NEIGH_UPDATE_F_USE of Linux 5.16).
void RouteSocket::solicit(int32_t ifindex, const Address& address) {
  if (entry(ifindex, address).state & ~(NUD_STALE | NUD_FAILED)) return;
  Request<ndmsg> request(RTM_NEWNEIGH, NLM_F_ACK | NLM_F_CREATE);
  request.body.ndm_family = std::holds_alternative<uint32_t>(address) ? AF_INET : AF_INET6;
  request.body.ndm_ifindex = ifindex;
  request.body.ndm_flags = NTF_USE;
  std::visit([&](const auto& value) { request.add(NDA_DST, value); }, address);
  const int error = ask(&request.header, [](const nlmsghdr*) {});
  if (error != 0) throw SystemError(error, "RTM_NEWNEIGH");
}

std::vector<Interface> RouteSocket::interfaces() {
  Request<ifinfomsg> request(RTM_GETLINK, NLM_F_DUMP);
  std::vector<Interface> links;
  const int error = ask(&request.header, [&](const nlmsghdr* message) { links.push_back(parseLink(message)); });
  if (error != 0) throw SystemError(error, "RTM_GETLINK");
  return links;
}

// Subscribed before the thread starts: what changes after the constructor returns is told.
RouteWatcher::RouteWatcher(std::function<bool()> changed)
    : changed_(std::move(changed)),
      fd_(netlink(RTMGRP_LINK | RTMGRP_NEIGH | RTMGRP_IPV4_IFADDR | RTMGRP_IPV4_ROUTE | RTMGRP_IPV4_RULE | NEXTHOPS)),
      stop_(check(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK), "eventfd()")),
      thread_([this] { run(); }) {}

RouteWatcher::~RouteWatcher() {
  ::eventfd_write(stop_.get(), 1);
  thread_.join();
}

void RouteWatcher::run() {
  pollfd fds[] = {{stop_.get(), POLLIN, 0}, {fd_.get(), POLLIN, 0}};
  for (;;) {
    if (::poll(fds, 2, -1) < 0 && errno != EINTR) return;
    // Gather what follows; only a stop cuts the pause short.
    if (::poll(fds, 1, COALESCE_MS) > 0) return;
    // ENOBUFS says that the kernel dropped notices: a change as well. Their content does not matter, so read one byte.
    char ignored;
    bool any = false;
    while (::recv(fd_.get(), &ignored, 1, MSG_DONTWAIT) >= 0 || errno == ENOBUFS || errno == EINTR) any = true;
    if (any && !changed_()) return;
  }
}

}  // namespace lb4
