// The export table and the argument checks; src/io/native.ts has the types and the promises. State lives in the objects,
// none in globals, so that every worker thread may load the addon.
#include <napi.h>
#include <sys/eventfd.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "checksum.h"
#include "cutter.h"
#include "file_lock.h"
#include "listen_socket.h"
#include "packet_socket.h"
#include "route.h"
#include "shared_memory.h"

namespace lb4 {
namespace {

// ---- errors and arguments

Napi::Error toJs(Napi::Env env, const SystemError& error) {
  Napi::Error js = Napi::Error::New(env, error.what());
  const char* const name = ::strerrorname_np(error.number());
  js.Set("code", name == nullptr ? "UNKNOWN" : name);
  js.Set("errno", static_cast<double>(error.number()));
  js.Set("syscall", error.syscall());
  return js;
}

// Runs the addon's own code and lets no SystemError past: Node-API knows only its own exceptions.
template <class Body>
auto guard(Napi::Env env, Body body) -> decltype(body()) {
  try {
    return body();
  } catch (const SystemError& error) {
    throw toJs(env, error);
  } catch (const std::bad_alloc&) {
    throw toJs(env, SystemError(ENOMEM, "malloc()"));
  }
}

[[noreturn]] void refuse(Napi::Env env, const std::string& what) { throw Napi::TypeError::New(env, what); }

// A whole number in [low, high].
double integer(const Napi::Value& value, const char* name, double low, double high) {
  if (value.IsNumber()) {
    const double number = value.As<Napi::Number>().DoubleValue();
    if (number >= low && number <= high && std::trunc(number) == number) return number;
  }
  refuse(value.Env(), std::string(name) + " must be an integer from " + std::to_string(static_cast<int64_t>(low)) +
                          " to " + std::to_string(static_cast<int64_t>(high)));
}

constexpr double MAX_INT = std::numeric_limits<int32_t>::max();
constexpr double MAX_SAFE = 9007199254740991.0;

int descriptor(const Napi::Value& value) { return static_cast<int>(integer(value, "fd", 0, MAX_INT)); }

// Signed as an Int32Array loads it, or unsigned as `>>> 0` leaves it: the same 32 bits.
uint32_t ipv4(const Napi::Value& value, const char* name) {
  return static_cast<uint32_t>(static_cast<int64_t>(integer(value, name, -2147483648.0, 4294967295.0)));
}

Napi::Number ipv4(Napi::Env env, uint32_t address) { return Napi::Number::New(env, static_cast<int32_t>(address)); }

std::vector<sock_filter> filterArgument(const Napi::Value& value) {
  const bool words = value.IsTypedArray() && value.As<Napi::TypedArray>().TypedArrayType() == napi_uint32_array;
  if (!words) refuse(value.Env(), "filter must be a Uint32Array");
  const auto array = value.As<Napi::Uint32Array>();
  const size_t length = array.ElementLength();
  if (length == 0 || length % 2 != 0 || length / 2 > BPF_MAXINSNS)
    refuse(value.Env(), "filter must hold 1 to 4096 instructions of two words");
  std::vector<sock_filter> filter;
  for (size_t i = 0; i < length; i += 2) {
    const uint32_t word = array[i];
    filter.push_back({static_cast<uint16_t>(word), static_cast<uint8_t>(word >> 16), static_cast<uint8_t>(word >> 24),
                      array[i + 1]});
  }
  return filter;
}

struct Frames {
  int32_t* words;
  uint32_t capacity;
};

// Plain Node-API: this runs twice a batch, and the wrappers cost more than the work.
Frames framesArgument(const Napi::CallbackInfo& info) {
  napi_typedarray_type type;
  size_t length = 0;
  void* data = nullptr;
  const napi_status status =
      napi_get_typedarray_info(info.Env(), info[0], &type, &length, &data, nullptr, nullptr);
  if (status != napi_ok || type != napi_int32_array || length < HEADER + STRIDE)
    refuse(info.Env(), "frames must be an Int32Array for at least one frame");
  return {static_cast<int32_t*>(data), static_cast<uint32_t>(std::min<size_t>(BATCH, (length - HEADER) / STRIDE))};
}

int32_t int32Argument(const Napi::CallbackInfo& info, size_t index, const char* name) {
  int32_t value = 0;
  if (napi_get_value_int32(info.Env(), info[index], &value) != napi_ok)
    refuse(info.Env(), std::string(name) + " must be a number");
  return value;
}

// An ArrayBuffer over the mapping, which lives as long as the buffer does.
Napi::ArrayBuffer toBuffer(Napi::Env env, const std::shared_ptr<Mapping>& mapping) {
  auto* const hold = new std::shared_ptr<Mapping>(mapping);
  return Napi::ArrayBuffer::New(
      env, mapping->data(), mapping->bytes(),
      [](Napi::Env, void*, std::shared_ptr<Mapping>* held) { delete held; }, hold);
}

// ---- PacketSocket

class PacketSocketObject : public Napi::ObjectWrap<PacketSocketObject> {
 public:
  static Napi::Function define(Napi::Env env) {
    return DefineClass(env, "PacketSocket",
                       {InstanceMethod<&PacketSocketObject::receive>("receive"),
                        InstanceMethod<&PacketSocketObject::transmit>("transmit"),
                        InstanceMethod<&PacketSocketObject::setFilter>("setFilter"),
                        InstanceMethod<&PacketSocketObject::statistics>("statistics"),
                        InstanceMethod<&PacketSocketObject::close>("close")});
  }

  explicit PacketSocketObject(const Napi::CallbackInfo& info) : ObjectWrap(info) {
    const Napi::Env env = info.Env();
    if (!info[0].IsObject()) refuse(env, "options must be an object");
    const auto options = info[0].As<Napi::Object>();
    const auto slots = static_cast<uint32_t>(integer(options.Get("slots"), "slots", 1, PacketSocket::MAX_SLOTS));
    const std::vector<sock_filter> filter = filterArgument(options.Get("filter"));
    socket_ = guard(env, [&] { return std::make_unique<PacketSocket>(slots, filter); });
    const Napi::ArrayBuffer slab = toBuffer(env, socket_->ring());
    slab_ = Napi::Weak(slab.As<Napi::Object>());
    info.This().As<Napi::Object>().DefineProperties(
        {Napi::PropertyDescriptor::Value("slab", slab, napi_enumerable),
         Napi::PropertyDescriptor::Value("slotBytes", Napi::Number::New(env, socket_->slotBytes()), napi_enumerable),
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
    const Frames frames = framesArgument(info);
    const int32_t timeout = int32Argument(info, 1, "timeoutMs");
    return Napi::Number::New(env, guard(env, [&] { return socket.receive(frames.words, frames.capacity, timeout); }));
  }

  Napi::Value transmit(const Napi::CallbackInfo& info) {
    const Napi::Env env = info.Env();
    PacketSocket& socket = open(env);
    const Frames frames = framesArgument(info);
    const int32_t count = int32Argument(info, 1, "count");
    if (count < 0 || static_cast<uint32_t>(count) > std::min(socket.batch(), frames.capacity))
      refuse(env, "count exceeds the batch received");
    return Napi::Number::New(
        env, guard(env, [&] { return socket.transmit(frames.words, static_cast<uint32_t>(count)); }));
  }

  void setFilter(const Napi::CallbackInfo& info) {
    PacketSocket& socket = open(info.Env());
    const std::vector<sock_filter> filter = filterArgument(info[0]);
    guard(info.Env(), [&] { socket.setFilter(filter); });
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

  // The buffer's finalizer runs an event loop turn later and drops a mapping that is already gone.
  void detach(Napi::Env env, Napi::ArrayBuffer slab) {
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
                        InstanceMethod<&RouteSocketObject::neighbour>("neighbour"),
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

  Napi::Value route(const Napi::CallbackInfo& info) {
    const Napi::Env env = info.Env();
    RouteSocket& socket = open(env);
    const uint32_t destination = ipv4(info[0], "destination");
    const uint32_t source = ipv4(info[1], "source");
    const Route route = guard(env, [&] { return socket.route(destination, source); });
    Napi::Object result = Napi::Object::New(env);
    result.Set("ifindex", route.ifindex);
    result.Set("kind", kindName(route.kind));
    result.Set("neighbour", addressValue(env, route.neighbour));
    result.Set("source", ipv4(env, route.source));
    result.Set("mtu", route.mtu);
    result.Set("local", Napi::Boolean::New(env, route.kind == RouteKind::local));
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
    object.Set("callsIptables", Napi::Boolean::New(env, link.calls_iptables));
    object.Set("carrier", Napi::Boolean::New(env, link.carrier));
    return object;
  }

  // A second watch takes the place of the first.
  void watch(const Napi::CallbackInfo& info) {
    const Napi::Env env = info.Env();
    open(env);
    if (!info[0].IsFunction()) refuse(env, "changed must be a function");
    watch_.reset();
    watch_ = guard(env, [&] { return std::make_unique<Watch>(env, info[0].As<Napi::Function>()); });
  }

  void close(const Napi::CallbackInfo&) {
    watch_.reset();
    socket_.reset();
  }

  std::unique_ptr<RouteSocket> socket_;
  std::unique_ptr<Watch> watch_;
};

// ---- functions

void wake(const Napi::CallbackInfo& info) {
  const int fd = descriptor(info[0]);
  // EAGAIN: the counter is full, so whoever waits is awake already (eventfd(2)).
  if (::eventfd_write(fd, 1) < 0 && errno != EAGAIN) throw toJs(info.Env(), SystemError(errno, "write(eventfd)"));
}

Napi::Value createSharedMemory(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  if (!info[0].IsString()) refuse(env, "name must be a string");
  const auto bytes = static_cast<size_t>(integer(info[1], "bytes", 1, MAX_SAFE));
  const std::string name = info[0].As<Napi::String>().Utf8Value();
  SharedMemory memory = guard(env, [&] { return lb4::createSharedMemory(name, bytes); });
  Napi::Object result = Napi::Object::New(env);
  result.Set("buffer", toBuffer(env, memory.mapping));
  result.Set("fd", memory.fd.get());
  memory.fd.release();
  return result;
}

Napi::Value mapSharedMemory(const Napi::CallbackInfo& info) {
  const int fd = descriptor(info[0]);
  return toBuffer(info.Env(), guard(info.Env(), [&] { return lb4::mapSharedMemory(fd); }));
}

void closeFd(const Napi::CallbackInfo& info) {
  const int fd = descriptor(info[0]);
  guard(info.Env(), [&] { check(::close(fd), "close()"); });
}

Napi::Value listenTcp(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  if (!info[0].IsString()) refuse(env, "host must be a string");
  const std::string host = info[0].As<Napi::String>().Utf8Value();
  const auto port = static_cast<uint16_t>(integer(info[1], "port", 0, 65535));
  const auto backlog = static_cast<int>(integer(info[2], "backlog", 1, MAX_INT));
  return Napi::Number::New(env, guard(env, [&] { return lb4::listenTcp(host, port, backlog); }).release());
}

Napi::Value duplicateFd(const Napi::CallbackInfo& info) {
  const int fd = descriptor(info[0]);
  return Napi::Number::New(info.Env(), guard(info.Env(), [&] { return lb4::duplicateFd(fd); }).release());
}

Napi::Value tryLockFile(const Napi::CallbackInfo& info) {
  const int fd = descriptor(info[0]);
  return Napi::Boolean::New(info.Env(), guard(info.Env(), [&] { return lb4::tryLockFile(fd); }));
}

Napi::Value isFileLocked(const Napi::CallbackInfo& info) {
  const int fd = descriptor(info[0]);
  return Napi::Boolean::New(info.Env(), guard(info.Env(), [&] { return lb4::isFileLocked(fd); }));
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
  if (!info[0].IsArrayBuffer()) refuse(env, "packet must be an ArrayBuffer");
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
      std::memcpy(piece.Data(), cutter.at(i), cutter.length(i));
      result.Set(static_cast<uint32_t>(i), piece);
    }
    return result;
  });
}

Napi::Object initialize(Napi::Env env, Napi::Object exports) {
  exports.Set("PacketSocket", PacketSocketObject::define(env));
  exports.Set("RouteSocket", RouteSocketObject::define(env));
  exports.Set("wake", Napi::Function::New<wake>(env, "wake"));
  exports.Set("createSharedMemory", Napi::Function::New<createSharedMemory>(env, "createSharedMemory"));
  exports.Set("mapSharedMemory", Napi::Function::New<mapSharedMemory>(env, "mapSharedMemory"));
  exports.Set("closeFd", Napi::Function::New<closeFd>(env, "closeFd"));
  exports.Set("listenTcp", Napi::Function::New<listenTcp>(env, "listenTcp"));
  exports.Set("duplicateFd", Napi::Function::New<duplicateFd>(env, "duplicateFd"));
  exports.Set("cut", Napi::Function::New<cut>(env, "cut"));
  exports.Set("tryLockFile", Napi::Function::New<tryLockFile>(env, "tryLockFile"));
  exports.Set("isFileLocked", Napi::Function::New<isFileLocked>(env, "isFileLocked"));
  exports.Set("sum", Napi::Function::New<sum>(env, "sum"));
  return exports;
}

}  // namespace
}  // namespace lb4

static Napi::Object init(Napi::Env env, Napi::Object exports) { return lb4::initialize(env, exports); }
NODE_API_MODULE(lb4, init)
