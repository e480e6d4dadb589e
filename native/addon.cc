// The export table; src/io/native.ts has the types and the promises. State lives in the objects, none in globals, so that
// every worker thread may load the addon.
#include <algorithm>

#include "addon_bpf.h"
#include "arguments.h"
#include "checksum.h"
#include "cpu_affinity.h"
#include "cutter.h"
#include "datagram.h"
#include "descriptor.h"
#include "fanout.h"
#include "file_lock.h"
#include "listen_socket.h"
#include "log_writer.h"
#include "network_namespace.h"
#include "packet_socket.h"
#include "privileges.h"
#include "process.h"
#include "raw_socket.h"
#include "route.h"
#include "shared_memory.h"

namespace lb4 {
namespace {

// ---- PacketSocket

class PacketSocketObject : public Napi::ObjectWrap<PacketSocketObject> {
 public:
  static Napi::Function define(Napi::Env env) {
    return DefineClass(env, "PacketSocket",
                       {InstanceMethod<&PacketSocketObject::receive>("receive"),
                        InstanceMethod<&PacketSocketObject::transmit>("transmit"),
                        InstanceMethod<&PacketSocketObject::setFilter>("setFilter"),
                        InstanceMethod<&PacketSocketObject::setPorts>("setPorts"),
                        InstanceMethod<&PacketSocketObject::statistics>("statistics"),
                        InstanceMethod<&PacketSocketObject::close>("close")});
  }

  explicit PacketSocketObject(const Napi::CallbackInfo& info) : ObjectWrap(info) {
    const Napi::Env env = info.Env();
    if (!info[0].IsObject()) refuse(env, "options must be an object");
    const auto options = info[0].As<Napi::Object>();
    const auto slots = static_cast<uint32_t>(integer(options.Get("slots"), "slots", 1, PacketSocket::MAX_SLOTS));
    const std::vector<sock_filter> filter = programArgument(options.Get("filter"), "filter");
    const Napi::Value wanted = options.Get("busyPollUs");
    const auto busyPoll =
        wanted.IsUndefined() ? 0 : static_cast<uint32_t>(integer(wanted, "busyPollUs", 0, PacketSocket::MAX_BUSY_POLL_US));
    const Napi::Value all = options.Get("all");
    if (!all.IsUndefined() && !all.IsBoolean()) refuse(env, "all must be true or false");
    const bool takesAll = all.IsBoolean() && all.As<Napi::Boolean>();
    socket_ = guard(env, [&] { return std::make_unique<PacketSocket>(slots, filter, busyPoll, takesAll); });
    const Napi::ArrayBuffer slab = toBuffer(env, socket_->ring());
    slab_ = Napi::Weak(slab.As<Napi::Object>());
    info.This().As<Napi::Object>().DefineProperties(
        {Napi::PropertyDescriptor::Value("slab", slab, napi_enumerable),
         Napi::PropertyDescriptor::Value("slotBytes", Napi::Number::New(env, socket_->slotBytes()), napi_enumerable),
         Napi::PropertyDescriptor::Value("fd", Napi::Number::New(env, socket_->fd()), napi_enumerable),
         Napi::PropertyDescriptor::Value("wakeFd", Napi::Number::New(env, socket_->wakeFd()), napi_enumerable)});
  }

 private:
  PacketSocket& open(Napi::Env env) {
    if (socket_ == nullptr) throw toJs(env, SystemError(EBADF, "socket(AF_PACKET, closed)"));
    return *socket_;
  }

  Napi::Value receive(const Napi::CallbackInfo& info) {
    const Napi::Env env = info.Env();
    PacketSocket& socket = open(env);
    const Frames frames = framesArgument(info, *socket.ring());
    const auto timeout = static_cast<int32_t>(fastInteger(info, 1, "timeoutMs", -1, MAX_INT));
    return Napi::Number::New(env, guard(env, [&] { return socket.receive(frames.words, frames.capacity, timeout); }));
  }

  Napi::Value transmit(const Napi::CallbackInfo& info) {
    const Napi::Env env = info.Env();
    PacketSocket& socket = open(env);
    const Frames frames = framesArgument(info, *socket.ring());
    const uint32_t most = std::min(socket.batch(), frames.capacity);
    const auto count = static_cast<uint32_t>(fastInteger(info, 1, "count (at most the batch received)", 0, most));
    return Napi::Number::New(env, guard(env, [&] { return socket.transmit(frames.words, count); }));
  }

  void setFilter(const Napi::CallbackInfo& info) {
    PacketSocket& socket = open(info.Env());
    const std::vector<sock_filter> filter = programArgument(info[0], "filter");
    guard(info.Env(), [&] { socket.setFilter(filter); });
  }

  void setPorts(const Napi::CallbackInfo& info) {
    const Napi::Env env = info.Env();
    PacketSocket& socket = open(env);
    const std::vector<int> ports = descriptors(info[0], "ports", 0, PacketSocket::MAX_PORTS);
    guard(env, [&] { socket.setPorts(ports); });
  }

  Napi::Value statistics(const Napi::CallbackInfo& info) {
    const Napi::Env env = info.Env();
    PacketSocket& socket = open(env);
    const tpacket_stats stats = guard(env, [&] { return socket.statistics(); });
    Napi::Object result = Napi::Object::New(env);
    result.Set("received", stats.tp_packets - stats.tp_drops);
    result.Set("dropped", stats.tp_drops);
    return result;
  }

  // The slab is detached (its views become empty), so the ring can go now: were it left to the garbage collector, the
  // mapping would keep the kernel's socket, and its memory, for as long.
  void close(const Napi::CallbackInfo& info) {
    if (socket_ == nullptr) return;
    const Napi::Value slab = slab_.Value();
    if (!slab.IsEmpty() && slab.IsArrayBuffer()) detach(info.Env(), slab.As<Napi::ArrayBuffer>());
    socket_.reset();
  }

  // The buffer's finalizer runs an event loop turn later and drops a mapping that is already gone. A slab that was detached
  // by somebody else lives on in another buffer (ArrayBuffer.prototype.transfer): the mapping is that one's now.
  void detach(Napi::Env env, Napi::ArrayBuffer slab) {
    if (slab.IsDetached()) return;
    if (napi_detach_arraybuffer(env, slab) == napi_ok) socket_->ring()->unmap();
  }

  std::unique_ptr<PacketSocket> socket_;
  Napi::ObjectReference slab_;
};

// ---- RouteSocket

// Tells a JavaScript function, from the watcher's thread, that something changed. Plain Node-API: the C++ wrapper aborts
// the process when a call is still queued while the environment ends (its error cannot be thrown any more).
class Notifier {
 public:
  Notifier(Napi::Env env, Napi::Function changed) {
    const Napi::String name = Napi::String::New(env, "lb4 route watch");
    const napi_status status = napi_create_threadsafe_function(env, changed, nullptr, name, 0, 1, nullptr, nullptr,
                                                               nullptr, call, &function_);
    if (status != napi_ok) throw Napi::Error::New(env);
    napi_unref_threadsafe_function(env, function_);  // watching alone keeps no process alive
  }
  Notifier(const Notifier&) = delete;
  // napi_closing means that the environment took the function back: it must not be touched again (node-api docs).
  ~Notifier() {
    if (open_) napi_release_threadsafe_function(function_, napi_tsfn_abort);
  }
  // Another thread. False once there is no one to tell.
  bool tell() { return open_ = napi_call_threadsafe_function(function_, nullptr, napi_tsfn_nonblocking) != napi_closing; }

 private:
  // JavaScript's thread; without an environment where the call comes too late. What the callback throws is uncaught.
  static void call(napi_env env, napi_value changed, void*, void*) {
    if (env == nullptr) return;
    napi_value undefined;
    if (napi_get_undefined(env, &undefined) != napi_ok) return;
    if (napi_call_function(env, undefined, changed, 0, nullptr, nullptr) != napi_pending_exception) return;
    napi_value error;
    if (napi_get_and_clear_last_exception(env, &error) == napi_ok) napi_fatal_exception(env, error);
  }

  napi_threadsafe_function function_ = nullptr;
  bool open_ = true;  // written by the thread, read after it was joined
};

struct Watch {
  Watch(Napi::Env env, Napi::Function changed) : notifier(env, changed), watcher([this] { return notifier.tell(); }) {}
  Notifier notifier;
  RouteWatcher watcher;  // last: its destructor joins the thread that uses the notifier
};

class RouteSocketObject : public Napi::ObjectWrap<RouteSocketObject> {
 public:
  static Napi::Function define(Napi::Env env) {
    return DefineClass(env, "RouteSocket",
                       {InstanceMethod<&RouteSocketObject::route>("route"),
                        InstanceMethod<&RouteSocketObject::links>("links"),
                        InstanceMethod<&RouteSocketObject::neighbour>("neighbour"),
                        InstanceMethod<&RouteSocketObject::isSilent>("isSilent"),
                        InstanceMethod<&RouteSocketObject::solicit>("solicit"),
                        InstanceMethod<&RouteSocketObject::interfaces>("interfaces"),
                        InstanceMethod<&RouteSocketObject::watch>("watch"),
                        InstanceMethod<&RouteSocketObject::close>("close")});
  }

  explicit RouteSocketObject(const Napi::CallbackInfo& info)
      : ObjectWrap(info), socket_(guard(info.Env(), [] { return std::make_unique<RouteSocket>(); })) {}

 private:
  RouteSocket& open(Napi::Env env) {
    if (socket_ == nullptr) throw toJs(env, SystemError(EBADF, "socket(NETLINK_ROUTE, closed)"));
    return *socket_;
  }

  static Napi::Value macBytes(Napi::Env env, const std::optional<Mac>& mac) {
    auto bytes = Napi::Uint8Array::New(env, mac ? mac->size() : 0);
    if (mac) std::copy(mac->begin(), mac->end(), bytes.Data());
    return bytes;
  }

  static const char* kindName(RouteKind kind) {
    switch (kind) {
      case RouteKind::unicast: return "unicast";
      case RouteKind::local: return "local";
      case RouteKind::broadcast: return "broadcast";
      case RouteKind::multicast: return "multicast";
      case RouteKind::blackhole: return "blackhole";
      case RouteKind::prohibit: return "prohibit";
      case RouteKind::unreachable: return "unreachable";
      case RouteKind::none: return "none";
      case RouteKind::source: return "source";
    }
    return "none";
  }

  // A number (IPv4), or a Uint8Array of 16 (IPv6).
  static Napi::Value addressValue(Napi::Env env, const Address& address) {
    if (const uint32_t* const four = std::get_if<uint32_t>(&address)) return ipv4(env, *four);
    const auto& six = std::get<1>(address);
    auto bytes = Napi::Uint8Array::New(env, six.size());
    std::copy(six.begin(), six.end(), bytes.Data());
    return bytes;
  }

  static Address addressOf(const Napi::Value& value) {
    if (!value.IsTypedArray()) return ipv4(value, "address");
    std::array<uint8_t, 16> six;
    const auto array = value.As<Napi::TypedArray>();
    if (array.TypedArrayType() != napi_uint8_array || array.ByteLength() != six.size())
      refuse(value.Env(), "address must be a number or a Uint8Array of 16 bytes");
    const auto bytes = value.As<Napi::Uint8Array>();
    std::copy(bytes.Data(), bytes.Data() + six.size(), six.begin());
    return six;
  }

  struct Question {
    explicit Question(const Napi::CallbackInfo& info)
        : destination(ipv4(info[0], "destination")),
          source(ipv4(info[1], "source")),
          port(static_cast<uint16_t>(integer(info[2], "port", 0, 65535))),
          protocol(static_cast<uint8_t>(integer(info[3], "protocol", 0, 255))) {}
    uint32_t destination;
    uint32_t source;
    uint16_t port;
    uint8_t protocol;
  };

  Napi::Value links(const Napi::CallbackInfo& info) {
    const Napi::Env env = info.Env();
    RouteSocket& socket = open(env);
    const Question of(info);
    const auto links = guard(env, [&] { return socket.links(of.destination, of.source, of.port, of.protocol); });
    Napi::Array result = Napi::Array::New(env, links.size());
    for (uint32_t i = 0; i < links.size(); i++) result.Set(i, links[i]);
    return result;
  }

  Napi::Value route(const Napi::CallbackInfo& info) {
    const Napi::Env env = info.Env();
    RouteSocket& socket = open(env);
    const Question of(info);
    const Route route = guard(env, [&] { return socket.route(of.destination, of.source, of.port, of.protocol); });
    Napi::Object result = Napi::Object::New(env);
    result.Set("ifindex", route.ifindex);
    result.Set("kind", kindName(route.kind));
    result.Set("neighbour", addressValue(env, route.neighbour));
    result.Set("source", ipv4(env, route.source));
    result.Set("mtu", route.mtu);
    result.Set("ownMtu", route.own_mtu);
    result.Set("local", Napi::Boolean::New(env, route.kind == RouteKind::local));
    result.Set("encapsulated", Napi::Boolean::New(env, route.encapsulated));
    return result;
  }

  Napi::Value neighbour(const Napi::CallbackInfo& info) {
    const Napi::Env env = info.Env();
    RouteSocket& socket = open(env);
    const auto ifindex = static_cast<int32_t>(integer(info[0], "ifindex", 1, MAX_INT));
    const Address address = addressOf(info[1]);
    const std::optional<Mac> mac = guard(env, [&] { return socket.neighbour(ifindex, address); });
    return mac ? macBytes(env, mac) : env.Undefined();
  }

  Napi::Value isSilent(const Napi::CallbackInfo& info) {
    const Napi::Env env = info.Env();
    RouteSocket& socket = open(env);
    const auto ifindex = static_cast<int32_t>(integer(info[0], "ifindex", 1, MAX_INT));
    const Address address = addressOf(info[1]);
    return Napi::Boolean::New(env, guard(env, [&] { return socket.isSilent(ifindex, address); }));
  }

  void solicit(const Napi::CallbackInfo& info) {
    const Napi::Env env = info.Env();
    RouteSocket& socket = open(env);
    const auto ifindex = static_cast<int32_t>(integer(info[0], "ifindex", 1, MAX_INT));
    const Address address = addressOf(info[1]);
    guard(env, [&] { socket.solicit(ifindex, address); });
  }

  Napi::Value interfaces(const Napi::CallbackInfo& info) {
    const Napi::Env env = info.Env();
    RouteSocket& socket = open(env);
    const std::vector<Interface> links = guard(env, [&] { return socket.interfaces(); });
    Napi::Array result = Napi::Array::New(env, links.size());
    for (uint32_t i = 0; i < links.size(); i++) result.Set(i, interfaceObject(env, links[i]));
    return result;
  }

  static Napi::Object interfaceObject(Napi::Env env, const Interface& link) {
    Napi::Object object = Napi::Object::New(env);
    object.Set("index", link.index);
    object.Set("name", link.name);
    object.Set("mtu", link.mtu);
    object.Set("mac", macBytes(env, link.mac));
    object.Set("up", Napi::Boolean::New(env, link.up));
    object.Set("kind", link.kind);
    object.Set("master", link.master);
    object.Set("link", link.link);
    object.Set("callsIptables", Napi::Boolean::New(env, link.calls_iptables));
    object.Set("carrier", Napi::Boolean::New(env, link.carrier));
    return object;
  }

  // A second watch takes the place of the first.
  void watch(const Napi::CallbackInfo& info) {
    const Napi::Env env = info.Env();
    open(env);
    if (!info[0].IsFunction()) refuse(env, "changed must be a function");
    watch_ = guard(env, [&] { return std::make_unique<Watch>(env, info[0].As<Napi::Function>()); });
  }

  void close(const Napi::CallbackInfo&) {
    watch_.reset();
    socket_.reset();
  }

  std::unique_ptr<RouteSocket> socket_;
  std::unique_ptr<Watch> watch_;
};

// ---- LogWriter

class LogWriterObject : public Napi::ObjectWrap<LogWriterObject> {
 public:
  static Napi::Function define(Napi::Env env) {
    return DefineClass(env, "LogWriter",
                       {InstanceMethod<&LogWriterObject::write>("write"), InstanceMethod<&LogWriterObject::drain>("drain"),
                        InstanceMethod<&LogWriterObject::counters>("counters"), InstanceMethod<&LogWriterObject::close>("close")});
  }

  explicit LogWriterObject(const Napi::CallbackInfo& info) : ObjectWrap(info) {
    const int fd = descriptor(info[0], "fd");
    const auto capacity = static_cast<size_t>(integer(info[1], "capacity", 1, MAX_INT));
    writer_ = guard(info.Env(), [&] { return std::make_unique<LogWriter>(fd, capacity); });
  }

 private:
  LogWriter& open(Napi::Env env) {
    if (writer_ == nullptr) throw toJs(env, SystemError(EBADF, "write(closed)"));
    return *writer_;
  }

  // Any length: a line longer than the capacity is lost like another for which there is no room.
  Napi::Value write(const Napi::CallbackInfo& info) {
    const Napi::Env env = info.Env();
    if (!info[0].IsString()) refuse(env, "line must be a string");
    if (!info[1].IsBoolean()) refuse(env, "isNotice must be a boolean");
    LogWriter& writer = open(env);
    std::string line = info[0].As<Napi::String>().Utf8Value();
    const bool isNotice = info[1].As<Napi::Boolean>().Value();
    return Napi::Boolean::New(env, guard(env, [&] { return writer.write(std::move(line), isNotice); }));
  }

  Napi::Value drain(const Napi::CallbackInfo& info) {
    const auto timeout = static_cast<int>(integer(info[0], "timeoutMs", 0, MAX_INT));
    return Napi::Boolean::New(info.Env(), open(info.Env()).drain(timeout));
  }

  Napi::Value counters(const Napi::CallbackInfo& info) {
    const LogWriter::Counters counters = open(info.Env()).counters();
    Napi::Object result = Napi::Object::New(info.Env());
    result.Set("pending", static_cast<double>(counters.pending));
    result.Set("lost", static_cast<double>(counters.lost));
    result.Set("notices", static_cast<double>(counters.notices));
    result.Set("error", counters.error);
    return result;
  }

  // What waits is still written, and then the descriptor goes: not when the garbage collector finds it, for a file that was moved away.
  void close(const Napi::CallbackInfo&) { writer_.reset(); }

  std::unique_ptr<LogWriter> writer_;
};

// ---- functions

Napi::Value fanOut(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  const std::vector<int> fds = descriptors(info[0], "fds", 1, MAX_FANOUT);
  std::vector<sock_filter> program;
  if (fds.size() > 1 || !info[1].IsUndefined()) program = programArgument(info[1], "program");
  std::vector<Fd> places = guard(env, [&] { return lb4::fanOut(fds, program); });
  const Napi::Array answer = Napi::Array::New(env, places.size());
  for (uint32_t i = 0; i < places.size(); i++) answer.Set(i, Napi::Number::New(env, places[i].release()));
  return answer;
}

void steer(const Napi::CallbackInfo& info) {
  const int fd = descriptor(info[0], "fd");
  const std::vector<sock_filter> program = programArgument(info[1], "program");
  guard(info.Env(), [&] { lb4::steer(fd, program); });
}

Napi::Value sendPackets(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  constexpr size_t MAX_PACKETS = 1 << 20;
  if (!info[0].IsArrayBuffer() || info[0].As<Napi::ArrayBuffer>().ByteLength() > MAX_PACKETS)
    refuse(env, "packets must be an ArrayBuffer of at most " + std::to_string(MAX_PACKETS) + " bytes");
  auto packets = info[0].As<Napi::ArrayBuffer>();
  const auto bytes = static_cast<size_t>(integer(info[1], "bytes", 20, 65535));
  if (packets.ByteLength() < bytes) return Napi::Number::New(env, 0);
  auto* const data = static_cast<uint8_t*>(packets.Data());
  const uint32_t sent = guard(env, [&] {
    RawSocket socket;
    socket.passOverLearntMtus();
    uint32_t count = 0;
    for (size_t at = 0; at + bytes <= packets.ByteLength(); at += bytes) count += socket.send(data + at, bytes, false) == 0;
    return count;
  });
  return Napi::Number::New(env, sent);
}

void wake(const Napi::CallbackInfo& info) {
  const int fd = descriptor(info[0], "wakeFd");
  guard(info.Env(), [&] { lb4::wake(fd); });
}

Napi::Value createSharedMemory(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  const std::string name = text(info[0], "name", MAX_MEMORY_NAME);
  const auto bytes = static_cast<size_t>(integer(info[1], "bytes", 1, MAX_MEMORY));
  SharedMemory memory = guard(env, [&] { return lb4::createSharedMemory(name, bytes); });
  Napi::Object result = Napi::Object::New(env);
  result.Set("buffer", toBuffer(env, memory.mapping));
  result.Set("fd", memory.fd.get());
  memory.fd.release();
  return result;
}

Napi::Value mapSharedMemory(const Napi::CallbackInfo& info) {
  const int fd = descriptor(info[0], "fd");
  return toBuffer(info.Env(), guard(info.Env(), [&] { return lb4::mapSharedMemory(fd); }));
}

void allocateFile(const Napi::CallbackInfo& info) {
  const int fd = descriptor(info[0], "fd");
  const auto bytes = static_cast<size_t>(integer(info[1], "bytes", 1, MAX_MEMORY));
  guard(info.Env(), [&] { lb4::allocateFile(fd, bytes); });
}

void closeFd(const Napi::CallbackInfo& info) {
  const int fd = descriptor(info[0], "fd");
  guard(info.Env(), [&] { closeOurs(fd); });
}

Napi::Value listenTcp(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  const std::string host = text(info[0], "host", MAX_HOST);
  const auto port = static_cast<uint16_t>(integer(info[1], "port", 0, 65535));
  const auto backlog = static_cast<int>(integer(info[2], "backlog", 1, MAX_INT));
  Fd fd = guard(env, [&] { return lb4::listenTcp(host, port, backlog); });
  return Napi::Number::New(env, fd.release());
}

Napi::Value duplicateFd(const Napi::CallbackInfo& info) {
  const int fd = descriptor(info[0], "fd");
  return Napi::Number::New(info.Env(), guard(info.Env(), [&] { return lb4::duplicateFd(fd); }).release());
}

Napi::Value openDatagram(const Napi::CallbackInfo& info) {
  const std::string path = text(info[0], "path", MAX_SOCKET_PATH);
  Fd fd = guard(info.Env(), [&] { return lb4::openDatagram(path); });
  return Napi::Number::New(info.Env(), fd.release());
}

void sendDatagram(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  const std::string path = text(info[0], "path", MAX_SOCKET_PATH);
  const std::string message = text(info[1], "text", MAX_DATAGRAM);
  const std::vector<int> handed = descriptors(info[2], "descriptors", 0, MAX_DESCRIPTORS);
  guard(env, [&] { lb4::sendDatagram(path, message, handed); });
}

Napi::Value receiveDatagram(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  const int fd = descriptor(info[0], "fd");
  Datagram datagram = guard(env, [&] { return lb4::receiveDatagram(fd); });
  Napi::Array descriptors = Napi::Array::New(env, datagram.descriptors.size());
  for (uint32_t i = 0; i < datagram.descriptors.size(); i++) descriptors.Set(i, datagram.descriptors[i].get());
  Napi::Object result = Napi::Object::New(env);
  result.Set("text", datagram.text);
  result.Set("descriptors", descriptors);
  for (Fd& one : datagram.descriptors) one.release();
  return result;
}

Napi::Value tryLockFile(const Napi::CallbackInfo& info) {
  const int fd = descriptor(info[0], "fd");
  return Napi::Boolean::New(info.Env(), guard(info.Env(), [&] { return lb4::tryLockFile(fd); }));
}

void unlockFile(const Napi::CallbackInfo& info) {
  const int fd = descriptor(info[0], "fd");
  guard(info.Env(), [&] { lb4::unlockFile(fd); });
}

Napi::Value isFileLocked(const Napi::CallbackInfo& info) {
  const int fd = descriptor(info[0], "fd");
  return Napi::Boolean::New(info.Env(), guard(info.Env(), [&] { return lb4::isFileLocked(fd); }));
}

Napi::Value networkCookie(const Napi::CallbackInfo& info) {
  return Napi::BigInt::New(info.Env(), guard(info.Env(), [&] { return lb4::networkCookie(); }));
}

void endWithParent(const Napi::CallbackInfo& info) { guard(info.Env(), [] { lb4::endWithParent(); }); }

void confine(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  if (!info[0].IsArray() || info[0].As<Napi::Array>().Length() > MOST_CAPABILITIES)
    refuse(env, "keep must be an array of at most " + std::to_string(MOST_CAPABILITIES));
  const auto given = info[0].As<Napi::Array>();
  uint64_t keep = 0;
  for (uint32_t i = 0; i < given.Length(); i++)
    keep |= uint64_t{1} << static_cast<uint32_t>(integer(given.Get(i), "keep", 0, MOST_CAPABILITIES - 1));
  const std::vector<int> open = descriptors(info[1], "open", 0, MOST_OPEN);
  guard(env, [&] { lb4::confine(keep, open); });
}

void pinThread(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  const uint32_t count = info[0].IsArray() ? info[0].As<Napi::Array>().Length() : 0;
  if (count == 0 || count > MOST_CPUS) refuse(env, "cpus must be an array of 1 to " + std::to_string(MOST_CPUS));
  const auto given = info[0].As<Napi::Array>();
  std::vector<uint32_t> cpus;
  for (uint32_t i = 0; i < count; i++) cpus.push_back(static_cast<uint32_t>(integer(given.Get(i), "cpus", 0, MOST_CPUS - 1)));
  guard(env, [&] { lb4::pinThread(cpus); });
}

template <std::vector<uint32_t> (*ask)()>
Napi::Value cpusOf(const Napi::CallbackInfo& info) {
  const std::vector<uint32_t> cpus = guard(info.Env(), ask);
  Napi::Array result = Napi::Array::New(info.Env(), cpus.size());
  for (uint32_t i = 0; i < cpus.size(); i++) result.Set(i, cpus[i]);
  return result;
}

Napi::Value sum(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  if (!info[0].IsArrayBuffer()) refuse(env, "buffer must be an ArrayBuffer");
  auto buffer = info[0].As<Napi::ArrayBuffer>();
  const auto size = static_cast<double>(buffer.ByteLength());
  const double offset = integer(info[1], "offset", 0, size);
  const auto length = static_cast<size_t>(integer(info[2], "length", 0, size - offset));
  return Napi::Number::New(env, lb4::sum(static_cast<uint8_t*>(buffer.Data()) + static_cast<size_t>(offset), length));
}

// The cutter alone, for the tests to compare with their own.
Napi::Value cut(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  constexpr size_t MOST = 1 << 20;
  if (!info[0].IsArrayBuffer() || info[0].As<Napi::ArrayBuffer>().ByteLength() > MOST)
    refuse(env, "packet must be an ArrayBuffer of at most 1048576 bytes");
  if (!info[2].IsBoolean()) refuse(env, "partial must be a boolean");
  auto given = info[0].As<Napi::ArrayBuffer>();
  const auto* const bytes = static_cast<uint8_t*>(given.Data());
  const Cuts how = {static_cast<uint32_t>(integer(info[1], "segment", 0, 65535)), info[2].As<Napi::Boolean>().Value(),
                    static_cast<uint32_t>(integer(info[3], "mtu", 1, 65535))};
  return guard(env, [&]() -> Napi::Value {
    std::vector<uint8_t> packet(bytes, bytes + given.ByteLength());
    Cutter cutter(0);
    const size_t pieces = cutter.cut(packet.data(), packet.size(), how);
    Napi::Array result = Napi::Array::New(env, pieces);
    for (size_t i = 0; i < pieces; i++) {
      Napi::ArrayBuffer piece = Napi::ArrayBuffer::New(env, cutter.length(i));
      std::memcpy(piece.Data(), cutter.packet(i), cutter.length(i));
      result.Set(static_cast<uint32_t>(i), piece);
    }
    return result;
  });
}

Napi::Object initialize(Napi::Env env, Napi::Object exports) {
  exports.Set("PacketSocket", PacketSocketObject::define(env));
  exports.Set("RouteSocket", RouteSocketObject::define(env));
  exports.Set("LogWriter", LogWriterObject::define(env));
  exports.Set("fanOut", Napi::Function::New<fanOut>(env, "fanOut"));
  exports.Set("steer", Napi::Function::New<steer>(env, "steer"));
  exports.Set("wake", Napi::Function::New<wake>(env, "wake"));
  exports.Set("createSharedMemory", Napi::Function::New<createSharedMemory>(env, "createSharedMemory"));
  exports.Set("mapSharedMemory", Napi::Function::New<mapSharedMemory>(env, "mapSharedMemory"));
  exports.Set("allocateFile", Napi::Function::New<allocateFile>(env, "allocateFile"));
  exports.Set("closeFd", Napi::Function::New<closeFd>(env, "closeFd"));
  exports.Set("listenTcp", Napi::Function::New<listenTcp>(env, "listenTcp"));
  exports.Set("duplicateFd", Napi::Function::New<duplicateFd>(env, "duplicateFd"));
  exports.Set("openDatagram", Napi::Function::New<openDatagram>(env, "openDatagram"));
  exports.Set("sendDatagram", Napi::Function::New<sendDatagram>(env, "sendDatagram"));
  exports.Set("receiveDatagram", Napi::Function::New<receiveDatagram>(env, "receiveDatagram"));
  exports.Set("sendPackets", Napi::Function::New<sendPackets>(env, "sendPackets"));
  exports.Set("cut", Napi::Function::New<cut>(env, "cut"));
  exports.Set("tryLockFile", Napi::Function::New<tryLockFile>(env, "tryLockFile"));
  exports.Set("unlockFile", Napi::Function::New<unlockFile>(env, "unlockFile"));
  exports.Set("isFileLocked", Napi::Function::New<isFileLocked>(env, "isFileLocked"));
  exports.Set("networkCookie", Napi::Function::New<networkCookie>(env, "networkCookie"));
  exports.Set("endWithParent", Napi::Function::New<endWithParent>(env, "endWithParent"));
  exports.Set("confine", Napi::Function::New<confine>(env, "confine"));
  exports.Set("pinThread", Napi::Function::New<pinThread>(env, "pinThread"));
  exports.Set("threadCpus", Napi::Function::New<cpusOf<threadCpus>>(env, "threadCpus"));
  exports.Set("usableCpus", Napi::Function::New<cpusOf<usableCpus>>(env, "usableCpus"));
  exports.Set("sum", Napi::Function::New<sum>(env, "sum"));
  defineBpf(env, exports);
  return exports;
}

}  // namespace
}  // namespace lb4

static Napi::Object init(Napi::Env env, Napi::Object exports) { return lb4::initialize(env, exports); }
NODE_API_MODULE(lb4, init)
