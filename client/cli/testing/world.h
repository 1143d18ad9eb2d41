#pragma once
// For tests: a World with text streams, a temporary folder and variables of its own.

#include <filesystem>
#include <fstream>
#include <map>
#include <sstream>
#include <stdlib.h>
#include <string>
#include <vector>

#include "client/cli/world.h"

namespace sae::cli::testing {

struct TestWorld {
  TestWorld() {
    std::string pattern = (std::filesystem::temp_directory_path() / "saeloom-cli-XXXXXX").string();
    directory = ::mkdtemp(pattern.data());
    world.directory = directory;
    world.own_directory = directory + "/bin";
    world.variable = [this](const std::string& name) {
      return variables.count(name) ? variables[name] : "";
    };
    world.new_request_id = [this] { return "r" + std::to_string(++request_ids); };
    world.exec = [this](const std::vector<std::string>& argv) {
      executed = argv;
      return absl::OkStatus();
    };
  }
  ~TestWorld() { std::filesystem::remove_all(directory); }
  TestWorld(const TestWorld&) = delete;
  TestWorld& operator=(const TestWorld&) = delete;

  std::string Write(const std::string& name, const std::string& content, bool executable = false) {
    const std::filesystem::path path = std::filesystem::path(directory) / name;
    std::filesystem::create_directories(path.parent_path());
    std::ofstream(path) << content;
    if (executable) std::filesystem::permissions(path, std::filesystem::perms::owner_all);
    return path.string();
  }

  std::string directory;
  std::map<std::string, std::string> variables;
  std::vector<std::string> executed;
  int request_ids = 0;  ///< given out
  std::ostringstream out, err;
  FakeClock clock;
  World world{.out = out, .err = err, .clock = clock, .env = RealEnv()};
};

}  // namespace sae::cli::testing
