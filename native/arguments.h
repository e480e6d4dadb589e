// What JavaScript may hand over. Every export takes its arguments through these: a wrong one throws a TypeError that names
// it and what is allowed, before anything was done. test/lab/wrong-arguments.cjs tries them all.
#pragma once

#include <linux/filter.h>
#include <napi.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <memory>
#include <string>
#include <system_error>
#include <vector>

#include "fd.h"
#include "frames.h"

namespace lb4 {

constexpr double MAX_INT = std::numeric_limits<int32_t>::max();
// Longest text of an IPv6 address (INET6_ADDRSTRLEN without the NUL).
constexpr size_t MAX_HOST = 45;

inline Napi::Error toJs(Napi::Env env, const SystemError& error) {
  Napi::Error js = Napi::Error::New(env, error.what());
  const char* const name = ::strerrorname_np(error.number());
  js.Set("code", name == nullptr ? "UNKNOWN" : name);
  js.Set("errno", static_cast<double>(error.number()));
  js.Set("syscall", error.syscall());
  return js;
}

// Runs the addon's own code and lets none of its exceptions past: Node-API knows only its own, any other ends the process.
template <class Body>
auto guard(Napi::Env env, Body body) -> decltype(body()) {
  try {
    return body();
  } catch (const SystemError& error) {
    throw toJs(env, error);
  } catch (const std::system_error& error) {  // std::thread's constructor: pthread_create(3)
    throw toJs(env, SystemError(error.code().value(), "pthread_create()"));
  } catch (const std::bad_alloc&) {
    throw toJs(env, SystemError(ENOMEM, "malloc()"));
  } catch (const std::length_error&) {
    throw toJs(env, SystemError(ENOMEM, "malloc()"));
  }
}

[[noreturn]] inline void refuse(Napi::Env env, const std::string& what) { throw Napi::TypeError::New(env, what); }

[[noreturn]] inline void refuseInteger(Napi::Env env, const char* name, double low, double high) {
  refuse(env, std::string(name) + " must be an integer from " + std::to_string(static_cast<int64_t>(low)) + " to " +
                  std::to_string(static_cast<int64_t>(high)));
}

inline bool isInteger(double number, double low, double high) {
  return number >= low && number <= high && std::trunc(number) == number;
}

// A whole number in [low, high].
inline double integer(const Napi::Value& value, const char* name, double low, double high) {
  if (value.IsNumber()) {
    const double number = value.As<Napi::Number>().DoubleValue();
    if (isInteger(number, low, high)) return number;
  }
  refuseInteger(value.Env(), name, low, high);
}

// The same in plain Node-API, for what runs twice a batch.
inline double fastInteger(const Napi::CallbackInfo& info, size_t index, const char* name, double low, double high) {
  double number = 0;
  if (napi_get_value_double(info.Env(), info[index], &number) != napi_ok || !isInteger(number, low, high))
    refuseInteger(info.Env(), name, low, high);
  return number;
}

// Text of 1 to `most` bytes. No NUL: the kernel's text ends at the first.
inline std::string text(const Napi::Value& value, const char* name, size_t most) {
  size_t bytes = 0;
  const bool isText = napi_get_value_string_utf8(value.Env(), value, nullptr, 0, &bytes) == napi_ok;
  if (isText && bytes > 0 && bytes <= most) {
    const std::string found = value.As<Napi::String>().Utf8Value();
    if (found.find('\0') == std::string::npos) return found;
  }
  refuse(value.Env(), std::string(name) + " must be a string of 1 to " + std::to_string(most) + " bytes without a NUL");
}

inline int descriptor(const Napi::Value& value, const char* name) {
  return static_cast<int>(integer(value, name, 0, MAX_INT));
}

// Signed as an Int32Array loads it, or unsigned as `>>> 0` leaves it: the same 32 bits.
inline uint32_t ipv4(const Napi::Value& value, const char* name) {
  return static_cast<uint32_t>(static_cast<int64_t>(integer(value, name, -2147483648.0, 4294967295.0)));
}

inline Napi::Number ipv4(Napi::Env env, uint32_t address) {
  return Napi::Number::New(env, static_cast<int32_t>(address));
}

// `least` to `most` of them.
inline std::vector<int> descriptors(const Napi::Value& value, const char* name, uint32_t least, uint32_t most) {
  const uint32_t count = value.IsArray() ? value.As<Napi::Array>().Length() : 0;
  if (!value.IsArray() || count < least || count > most)
    refuse(value.Env(), std::string(name) + " must be an array of " + std::to_string(least) + " to " + std::to_string(most));
  std::vector<int> found;
  for (uint32_t i = 0; i < count; i++) found.push_back(descriptor(value.As<Napi::Array>().Get(i), name));
  return found;
}

// Classic BPF, two words an instruction.
inline std::vector<sock_filter> programArgument(const Napi::Value& value, const std::string& name) {
  const bool words = value.IsTypedArray() && value.As<Napi::TypedArray>().TypedArrayType() == napi_uint32_array;
  if (!words) refuse(value.Env(), name + " must be a Uint32Array");
  const auto array = value.As<Napi::Uint32Array>();
  const size_t length = array.ElementLength();
  if (length == 0 || length % 2 != 0 || length / 2 > BPF_MAXINSNS)
    refuse(value.Env(), name + " must hold 1 to 4096 instructions of two words");
  std::vector<sock_filter> program;
  for (size_t i = 0; i < length; i += 2) {
    const uint32_t word = array[i];
    program.push_back({static_cast<uint16_t>(word), static_cast<uint8_t>(word >> 16), static_cast<uint8_t>(word >> 24),
                       array[i + 1]});
  }
  return program;
}

struct Frames {
  int32_t* words;
  uint32_t capacity;
};

// Plain Node-API: this runs twice a batch, and the wrappers cost more than the work. Descriptors that lie in the ring they
// describe would be written over the slots' own headers.
inline Frames framesArgument(const Napi::CallbackInfo& info, const Mapping& ring) {
  napi_typedarray_type type;
  size_t length = 0;
  void* data = nullptr;
  const napi_status status =
      napi_get_typedarray_info(info.Env(), info[0], &type, &length, &data, nullptr, nullptr);
  const auto* const at = static_cast<uint8_t*>(data);
  const bool isRing = at >= ring.data() && at < ring.data() + ring.bytes();
  if (status != napi_ok || type != napi_int32_array || length < LB4_FRAME_HEADER + LB4_FRAME_STRIDE || isRing)
    refuse(info.Env(), "frames must be an Int32Array for at least one frame, outside the ring");
  const size_t capacity = (length - LB4_FRAME_HEADER) / LB4_FRAME_STRIDE;
  return {static_cast<int32_t*>(data), static_cast<uint32_t>(std::min<size_t>(LB4_FRAME_BATCH, capacity))};
}

// An ArrayBuffer over the mapping, which lives as long as the buffer does. Plain Node-API: where it fails Node has run the
// finalizer already or will, and the C++ wrapper frees what that frees (glibc: "double free detected").
inline Napi::ArrayBuffer toBuffer(Napi::Env env, const std::shared_ptr<Mapping>& mapping) {
  auto* const hold = new std::shared_ptr<Mapping>(mapping);
  napi_value buffer;
  const napi_status status = napi_create_external_arraybuffer(
      env, mapping->data(), mapping->bytes(),
      [](napi_env, void*, void* held) { delete static_cast<std::shared_ptr<Mapping>*>(held); }, hold, &buffer);
  if (status == napi_ok) return {env, buffer};
  mapping->unmap();
  throw Napi::Error::New(env);
}

}  // namespace lb4
