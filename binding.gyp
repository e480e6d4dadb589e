{
  # node-gyp finds this file and would compile by its own list of sources. There is one list, native/CMakeLists.txt,
  # so this target only hands over to cmake-js.
  "targets": [
    {
      "target_name": "lb4",
      "type": "none",
      "actions": [
        {
          "action_name": "cmake-js",
          "inputs": ["native/CMakeLists.txt"],
          "outputs": ["build/Release/lb4.node"],
          "action": ["npx", "--no-install", "cmake-js", "compile", "-d", "native", "-O", "build"]
        }
      ]
    }
  ]
}
