#include "iouring/uring_request.hh"

#include <liburing.h>
#include <sys/wait.h>

#include <cerrno>

namespace schedlab::iouring {

namespace {

void prepare_wait_child(io_uring_sqe& sqe, const Request& request) {
  ::io_uring_prep_rw(static_cast<int>(op_waitid), &sqe, request.fd, nullptr, P_PID, 0);
  sqe.off = reinterpret_cast<std::uint64_t>(request.address);  // addr2: where siginfo_t goes
  sqe.file_index = request.flags;
}

void prepare_file(io_uring_sqe& sqe, const Request& request) {
  switch (request.op) {
  case Op::read:
    if (request.fixed_buffer != no_buffer)
      ::io_uring_prep_read_fixed(&sqe, request.fd, request.address, request.length, request.offset,
                                 request.fixed_buffer);
    else
      ::io_uring_prep_read(&sqe, request.fd, request.address, request.length, request.offset);
    break;
  case Op::write:
    if (request.fixed_buffer != no_buffer)
      ::io_uring_prep_write_fixed(&sqe, request.fd, request.address, request.length, request.offset,
                                  request.fixed_buffer);
    else
      ::io_uring_prep_write(&sqe, request.fd, request.address, request.length, request.offset);
    break;
  case Op::open:
    ::io_uring_prep_openat(&sqe, request.fd, static_cast<const char*>(request.address),
                           static_cast<int>(request.flags), request.length);
    break;
  case Op::fsync:
    ::io_uring_prep_fsync(&sqe, request.fd, request.flags ? IORING_FSYNC_DATASYNC : 0);
    break;
  case Op::statx:
    ::io_uring_prep_statx(&sqe, request.fd, static_cast<const char*>(request.address),
                          static_cast<int>(request.flags), request.length,
                          static_cast<struct statx*>(request.second));
    break;
  case Op::splice:
    ::io_uring_prep_splice(&sqe, request.fd, static_cast<std::int64_t>(request.offset),
                           request.second_fd, static_cast<std::int64_t>(request.second_offset),
                           request.length, request.flags);
    break;
  default:
    break;
  }
}

void prepare_socket(io_uring_sqe& sqe, const Request& request) {
  auto* const address = static_cast<sockaddr*>(request.address);
  const int flags = static_cast<int>(request.flags);
  switch (request.op) {
  case Op::accept:
    if (request.many)
      ::io_uring_prep_multishot_accept(&sqe, request.fd, nullptr, nullptr, flags);
    else
      ::io_uring_prep_accept(&sqe, request.fd, address, static_cast<socklen_t*>(request.second),
                             flags);
    break;
  case Op::connect:
    ::io_uring_prep_connect(&sqe, request.fd, address, request.length);
    break;
  case Op::recv:
    if (request.many)
      ::io_uring_prep_recv_multishot(&sqe, request.fd, nullptr, 0, flags);
    else
      ::io_uring_prep_recv(&sqe, request.fd, request.address, request.length, flags);
    break;
  case Op::send:
    ::io_uring_prep_send(&sqe, request.fd, request.address, request.length, flags);
    break;
  case Op::shutdown:
    ::io_uring_prep_shutdown(&sqe, request.fd, flags);
    break;
  default:
    break;
  }
}

}  // namespace

void prepare(io_uring_sqe& sqe, const Request& request) noexcept {
  switch (request.op) {
  case Op::nop:
    ::io_uring_prep_nop(&sqe);
    sqe.rw_flags = static_cast<int>(request.flags);  // IORING_NOP_INJECT_RESULT
    sqe.len = request.flags ? request.length : 0;
    break;
  case Op::read:
  case Op::write:
  case Op::open:
  case Op::fsync:
  case Op::statx:
  case Op::splice:
    prepare_file(sqe, request);
    break;
  case Op::accept:
  case Op::connect:
  case Op::recv:
  case Op::send:
  case Op::shutdown:
    prepare_socket(sqe, request);
    break;
  case Op::close:
    ::io_uring_prep_close(&sqe, request.fd);
    break;
  case Op::poll:
    ::io_uring_prep_poll_add(&sqe, request.fd, request.flags);
    break;
  case Op::wait_child:
    prepare_wait_child(sqe, request);
    break;
  case Op::cancel_fd:
    ::io_uring_prep_cancel_fd(&sqe, request.fd, IORING_ASYNC_CANCEL_ALL | request.flags);
    break;
  }
  if (request.fixed_file)
    sqe.flags |= IOSQE_FIXED_FILE;
  if (request.buffer_group != no_buffer) {
    sqe.flags |= IOSQE_BUFFER_SELECT;
    sqe.buf_group = request.buffer_group;
  }
}

bool is_passing(int result) noexcept {
  return result >= 0 || result == -ETIME || result == -EINTR || result == -EAGAIN ||
         result == -EBUSY;
}

bool has_failed(io_uring& ring, std::uint64_t data) noexcept {
  unsigned head;
  io_uring_cqe* cqe;
  io_uring_for_each_cqe(&ring, head, cqe) {
    if (cqe->user_data == data)
      return cqe->res < 0;
  }
  return false;
}

}  // namespace schedlab::iouring
