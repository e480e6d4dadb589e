#include "xdp_features.h"

#include <linux/genetlink.h>
#include <linux/netlink.h>
#include <sys/socket.h>

#include <cerrno>
#include <cstring>
#include <string_view>
#include <vector>

#include "error.h"
#include "fd.h"

namespace lb4 {
namespace {

// linux/netdev.h, which is younger than many systems' headers.
constexpr std::string_view FAMILY{"netdev", 7};  // with its zero
constexpr uint8_t DEV_GET = 1;                   // NETDEV_CMD_DEV_GET
constexpr uint16_t IFINDEX = 1;                  // NETDEV_A_DEV_IFINDEX
constexpr uint16_t XDP_FEATURES = 3;             // NETDEV_A_DEV_XDP_FEATURES
constexpr uint64_t NDO_XMIT = 4;                 // NETDEV_XDP_ACT_NDO_XMIT
constexpr size_t ANSWER_BYTES = 8192;

struct Request {
  nlmsghdr header{};
  genlmsghdr command{};
  alignas(4) char attribute[32] = {};
};

// The attribute of that type in the answer to a command with one attribute; empty: refused, or there is none.
std::vector<char> ask(int fd, uint16_t family, uint8_t command, uint16_t type, const void* value, size_t bytes, uint16_t wanted) {
  Request request;
  const nlattr attribute = {static_cast<uint16_t>(NLA_HDRLEN + bytes), type};
  request.header.nlmsg_len = static_cast<uint32_t>(NLMSG_LENGTH(GENL_HDRLEN) + NLA_ALIGN(attribute.nla_len));
  request.header.nlmsg_type = family;
  request.header.nlmsg_flags = NLM_F_REQUEST;
  request.command = {command, 1, 0};
  std::memcpy(request.attribute, &attribute, sizeof attribute);
  std::memcpy(request.attribute + NLA_HDRLEN, value, bytes);
  check(static_cast<int>(::send(fd, &request, request.header.nlmsg_len, 0)), "send(NETLINK_GENERIC)");
  std::vector<char> answer(ANSWER_BYTES);
  ssize_t read;
  do read = ::recv(fd, answer.data(), answer.size(), 0);
  while (read < 0 && errno == EINTR);
  check(static_cast<int>(read), "recv(NETLINK_GENERIC)");
  const auto* message = reinterpret_cast<const nlmsghdr*>(answer.data());
  if (!NLMSG_OK(message, static_cast<size_t>(read)) || message->nlmsg_type != family) return {};
  for (size_t at = NLMSG_LENGTH(GENL_HDRLEN); at + NLA_HDRLEN <= message->nlmsg_len;) {
    nlattr found;
    std::memcpy(&found, answer.data() + at, sizeof found);
    if (found.nla_len < NLA_HDRLEN || at + found.nla_len > message->nlmsg_len) return {};
    if ((found.nla_type & NLA_TYPE_MASK) == wanted) return {answer.data() + at + NLA_HDRLEN, answer.data() + at + found.nla_len};
    at += NLA_ALIGN(found.nla_len);
  }
  return {};
}

template <class Value>
std::optional<Value> valueIn(const std::vector<char>& bytes) {
  if (bytes.size() < sizeof(Value)) return std::nullopt;
  Value value;
  std::memcpy(&value, bytes.data(), sizeof value);
  return value;
}

}  // namespace

std::optional<bool> takesRedirected(int32_t ifindex) {
  const Fd fd(check(::socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_GENERIC), "socket(NETLINK_GENERIC)"));
  const auto family = valueIn<uint16_t>(
      ask(fd.get(), GENL_ID_CTRL, CTRL_CMD_GETFAMILY, CTRL_ATTR_FAMILY_NAME, FAMILY.data(), FAMILY.size(), CTRL_ATTR_FAMILY_ID));
  if (!family) return std::nullopt;
  const auto features = valueIn<uint64_t>(ask(fd.get(), *family, DEV_GET, IFINDEX, &ifindex, sizeof ifindex, XDP_FEATURES));
  if (!features) return std::nullopt;
  return (*features & NDO_XMIT) != 0;
}

}  // namespace lb4
