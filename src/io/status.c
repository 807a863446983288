/* SPDX-License-Identifier: MIT */
/* What an error of Linux is called on Windows. The only place that knows both. */

#include "io/io.h"

#include <errno.h>

NTSTATUS io_status_of_error(int64_t error)
{
    switch (-error) {
    case EIO:
        return STATUS_IO_DEVICE_ERROR;
    case ENOMEM:
    case ENOBUFS:
        return STATUS_INSUFFICIENT_RESOURCES;
    case ENOSPC:
    case EFBIG:
    case EDQUOT:
        return STATUS_DISK_FULL;
    case EROFS:
    case EPERM:
    case EBADF:
        return STATUS_MEDIA_WRITE_PROTECTED;
    case EACCES:
        return STATUS_ACCESS_DENIED;
    case EFAULT:
        return STATUS_ACCESS_VIOLATION;
    case EINVAL:
        return STATUS_INVALID_PARAMETER;
    case ENODATA:
    case EILSEQ:
        return STATUS_DEVICE_DATA_ERROR;
    case ENODEV:
    case ENXIO:
    case ENOMEDIUM:
        return STATUS_NO_MEDIA_IN_DEVICE;
    case ETIMEDOUT:
        return STATUS_IO_TIMEOUT;
    default:
        return STATUS_UNEXPECTED_IO_ERROR;
    }
}
