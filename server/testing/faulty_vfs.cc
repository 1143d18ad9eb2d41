#include "server/testing/faulty_vfs.h"

#include <algorithm>
#include <cstring>
#include <fcntl.h>
#include <fstream>
#include <sqlite3.h>
#include <thread>
#include <unistd.h>
#include <utility>

#include "sae/base/random.h"

namespace sae::server::testing {
namespace {

constexpr std::int64_t kSector = 512;

sqlite3_vfs* Real() { return sqlite3_vfs_find("unix"); }
FaultyVfs& Owner(sqlite3_vfs* vfs) { return *static_cast<FaultyVfs*>(vfs->pAppData); }

}  // namespace

/// One open file. SQLite allocates it, with the real file behind it.
struct FaultyFile {
  sqlite3_file base;
  FaultyVfs* owner;
  std::string* path;  // owned
  sqlite3_file* real() { return reinterpret_cast<sqlite3_file*>(this + 1); }

  static FaultyFile& Of(sqlite3_file* file) { return *reinterpret_cast<FaultyFile*>(file); }

  static int Close(sqlite3_file* file) {
    FaultyFile& f = Of(file);
    delete f.path;
    return f.real()->pMethods == nullptr ? SQLITE_OK : f.real()->pMethods->xClose(f.real());
  }

  std::int64_t Size() {
    sqlite3_int64 size = 0;
    real()->pMethods->xFileSize(real(), &size);
    MutexLock lock(owner->mu_);
    for (const auto& c : owner->unsynced_[*path]) {
      const std::int64_t end = c.offset + static_cast<std::int64_t>(c.bytes.size());
      size = c.truncation ? c.offset : std::max<sqlite3_int64>(size, end);
    }
    return size;
  }

  static int Read(sqlite3_file* file, void* out, int amount, sqlite3_int64 offset) {
    FaultyFile& f = Of(file);
    if (f.owner->power_is_off()) return SQLITE_IOERR_READ;
    const int code = f.real()->pMethods->xRead(f.real(), out, amount, offset);
    if (code != SQLITE_OK && code != SQLITE_IOERR_SHORT_READ) return code;
    const std::int64_t size = f.Size();
    char* bytes = static_cast<char*>(out);
    MutexLock lock(f.owner->mu_);
    for (const auto& c : f.owner->unsynced_[*f.path]) {
      const std::int64_t end =
          c.truncation ? INT64_MAX : c.offset + static_cast<std::int64_t>(c.bytes.size());
      const std::int64_t from = std::max<std::int64_t>(c.offset, offset);
      const std::int64_t to = std::min<std::int64_t>(end, offset + amount);
      if (from >= to) continue;
      const auto n = static_cast<std::size_t>(to - from);
      if (c.truncation) {
        std::memset(bytes + (from - offset), 0, n);
      } else {
        std::memcpy(bytes + (from - offset), c.bytes.data() + (from - c.offset), n);
      }
    }
    if (offset + amount <= size) return SQLITE_OK;
    const std::int64_t have = std::clamp<std::int64_t>(size - offset, 0, amount);
    std::memset(bytes + have, 0, static_cast<std::size_t>(amount - have));
    return SQLITE_IOERR_SHORT_READ;
  }

  static int Write(sqlite3_file* file, const void* data, int amount, sqlite3_int64 offset) {
    FaultyFile& f = Of(file);
    const bool grows = offset + amount > f.Size();
    if (const int code = f.owner->Operation(*f.path, SQLITE_IOERR_WRITE, grows); code != SQLITE_OK)
      return code;
    MutexLock lock(f.owner->mu_);
    f.owner->unsynced_[*f.path].push_back(
        {offset, std::string(static_cast<const char*>(data), static_cast<std::size_t>(amount)),
         false});
    return SQLITE_OK;
  }

  static int Truncate(sqlite3_file* file, sqlite3_int64 size) {
    FaultyFile& f = Of(file);
    if (const int code = f.owner->Operation(*f.path, SQLITE_IOERR_TRUNCATE, false);
        code != SQLITE_OK)
      return code;
    MutexLock lock(f.owner->mu_);
    f.owner->unsynced_[*f.path].push_back({size, "", true});
    return SQLITE_OK;
  }

  static int Sync(sqlite3_file* file, int) {
    FaultyFile& f = Of(file);
    std::function<void()> hook;
    {
      MutexLock lock(f.owner->mu_);
      hook = f.owner->on_sync_;
    }
    if (hook) hook();
    if (const int code = f.owner->Operation(*f.path, SQLITE_IOERR_FSYNC, false); code != SQLITE_OK)
      return code;
    FaultyVfs::Changes changes;
    {
      MutexLock lock(f.owner->mu_);
      changes = std::exchange(f.owner->unsynced_[*f.path], {});
    }
    for (const auto& c : changes) {
      const int code = c.truncation
                           ? f.real()->pMethods->xTruncate(f.real(), c.offset)
                           : f.real()->pMethods->xWrite(f.real(), c.bytes.data(),
                                                        static_cast<int>(c.bytes.size()), c.offset);
      if (code != SQLITE_OK) return code;
    }
    return SQLITE_OK;  // the machine's page cache is this layer's disk
  }

  static int FileSize(sqlite3_file* file, sqlite3_int64* size) {
    *size = Of(file).Size();
    return SQLITE_OK;
  }
  static int Lock(sqlite3_file* file, int level) {
    return Of(file).real()->pMethods->xLock(Of(file).real(), level);
  }
  static int Unlock(sqlite3_file* file, int level) {
    return Of(file).real()->pMethods->xUnlock(Of(file).real(), level);
  }
  static int CheckReservedLock(sqlite3_file* file, int* out) {
    return Of(file).real()->pMethods->xCheckReservedLock(Of(file).real(), out);
  }
  static int FileControl(sqlite3_file* file, int op, void* arg) {
    if (op == SQLITE_FCNTL_SIZE_HINT || op == SQLITE_FCNTL_CHUNK_SIZE) return SQLITE_OK;
    return Of(file).real()->pMethods->xFileControl(Of(file).real(), op, arg);
  }
  static int SectorSize(sqlite3_file* file) {
    return Of(file).real()->pMethods->xSectorSize(Of(file).real());
  }
  static int Characteristics(sqlite3_file* file) {
    return Of(file).real()->pMethods->xDeviceCharacteristics(Of(file).real());
  }

  // Without shared memory: WAL needs none under an exclusive lock.
  static const sqlite3_io_methods* Methods() {
    static const sqlite3_io_methods methods = [] {
      sqlite3_io_methods m{};
      m.iVersion = 1;
      m.xClose = Close;
      m.xRead = Read;
      m.xWrite = Write;
      m.xTruncate = Truncate;
      m.xSync = Sync;
      m.xFileSize = FileSize;
      m.xLock = Lock;
      m.xUnlock = Unlock;
      m.xCheckReservedLock = CheckReservedLock;
      m.xFileControl = FileControl;
      m.xSectorSize = SectorSize;
      m.xDeviceCharacteristics = Characteristics;
      return m;
    }();
    return &methods;
  }

  static int Open(sqlite3_vfs* vfs, const char* name, sqlite3_file* file, int flags, int* out) {
    FaultyFile& f = Of(file);
    f.base.pMethods = nullptr;
    if (Owner(vfs).power_is_off()) return SQLITE_CANTOPEN;
    const int code = Real()->xOpen(Real(), name, f.real(), flags, out);
    if (code != SQLITE_OK) return code;
    f.owner = &Owner(vfs);
    f.path = new std::string(name == nullptr ? "" : name);
    f.base.pMethods = Methods();
    return SQLITE_OK;
  }
  static int Delete(sqlite3_vfs* vfs, const char* name, int sync) {
    FaultyVfs& owner = Owner(vfs);
    if (const int code = owner.Operation(name, SQLITE_IOERR_DELETE, false); code != SQLITE_OK)
      return code;
    {
      MutexLock lock(owner.mu_);
      owner.unsynced_.erase(name);
    }
    return Real()->xDelete(Real(), name, sync);
  }
};

FaultyVfs::FaultyVfs(std::string name)
    : name_(std::move(name)), vfs_(std::make_unique<sqlite3_vfs>(*Real())) {
  vfs_->szOsFile = static_cast<int>(sizeof(FaultyFile)) + Real()->szOsFile;
  vfs_->pNext = nullptr;
  vfs_->zName = name_.c_str();
  vfs_->pAppData = this;
  vfs_->xOpen = FaultyFile::Open;
  vfs_->xDelete = FaultyFile::Delete;
  // The others look at pAppData: they get the real one.
  vfs_->xAccess = [](sqlite3_vfs*, const char* path, int flags, int* out) {
    return Real()->xAccess(Real(), path, flags, out);
  };
  vfs_->xFullPathname = [](sqlite3_vfs*, const char* path, int size, char* out) {
    return Real()->xFullPathname(Real(), path, size, out);
  };
  sqlite3_vfs_register(vfs_.get(), 0);
}

FaultyVfs::~FaultyVfs() { sqlite3_vfs_unregister(vfs_.get()); }

std::int64_t FaultyVfs::operations() {
  MutexLock lock(mu_);
  return operations_;
}

void FaultyVfs::FailFrom(std::int64_t first, Fault fault, std::int64_t count) {
  MutexLock lock(mu_);
  fail_first_ = first;
  fail_count_ = count;
  fault_ = fault;
}

void FaultyVfs::CutPowerAt(std::int64_t at, std::optional<std::uint64_t> seed) {
  MutexLock lock(mu_);
  cut_at_ = at;
  cut_seed_ = seed;
}

bool FaultyVfs::power_is_off() {
  MutexLock lock(mu_);
  return off_;
}

void FaultyVfs::Reboot() {
  MutexLock lock(mu_);
  off_ = false;
  cut_at_ = 0;
  unsynced_.clear();
}

void FaultyVfs::OnSync(std::function<void()> hook) {
  MutexLock lock(mu_);
  on_sync_ = std::move(hook);
}

void FaultyVfs::FollowFile(std::string path) {
  MutexLock lock(mu_);
  file_ = std::move(path);
}

FaultyVfs::Fault FaultyVfs::Asked(absl::Duration& delay) {
  std::string path;
  {
    MutexLock lock(mu_);
    path = file_;
  }
  if (path.empty()) return Fault::kNone;
  std::ifstream in(path);
  std::string word;
  std::int64_t milliseconds = 0;
  in >> word >> milliseconds;
  if (word == "slow") delay = absl::Milliseconds(milliseconds);
  return word == "full" ? Fault::kNoSpace : word == "io" ? Fault::kIo : Fault::kNone;
}

int FaultyVfs::Operation(const std::string&, int io_error, bool grows) {
  absl::Duration delay;
  Fault fault = Asked(delay);
  if (delay > absl::ZeroDuration() && io_error == SQLITE_IOERR_FSYNC)
    std::this_thread::sleep_for(absl::ToChronoMilliseconds(delay));
  MutexLock lock(mu_);
  if (off_) return io_error;
  ++operations_;
  if (operations_ == cut_at_) {
    LoseUnsynced();
    off_ = true;
    return io_error;
  }
  if (fault_ != Fault::kNone && operations_ >= fail_first_ &&
      operations_ - fail_first_ < fail_count_)
    fault = fault_;
  if (fault == Fault::kIo) return io_error;
  return fault == Fault::kNoSpace && grows ? SQLITE_FULL : SQLITE_OK;
}

void FaultyVfs::LoseUnsynced() {
  if (cut_seed_) {
    Random random(*cut_seed_);
    for (const auto& [path, changes] : unsynced_) {
      const int fd = ::open(path.c_str(), O_WRONLY);
      for (const Change& c : changes) {
        if (fd < 0 || c.truncation) continue;
        const auto size = static_cast<std::int64_t>(c.bytes.size());
        for (std::int64_t at = 0; at < size; at += kSector) {
          if (random.Below(2) == 0) continue;
          const auto n = static_cast<std::size_t>(std::min(kSector, size - at));
          if (::pwrite(fd, c.bytes.data() + at, n, c.offset + at) < 0) break;
        }
      }
      if (fd >= 0) ::close(fd);
    }
  }
  unsynced_.clear();
}

}  // namespace sae::server::testing
