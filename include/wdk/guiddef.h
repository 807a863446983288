/* SPDX-License-Identifier: MIT */
/*
 * GUID, and DEFINE_GUID: a declaration everywhere, a definition where <initguid.h> was included before.
 * No DDI lives here.
 */
#ifndef PINION_WDK_GUIDDEF_H
#define PINION_WDK_GUIDDEF_H

#include <string.h>

#ifndef EXTERN_C
#ifdef __cplusplus
#define EXTERN_C extern "C"
#else
#define EXTERN_C extern
#endif
#endif

typedef struct _GUID {
    unsigned int   Data1;
    unsigned short Data2;
    unsigned short Data3;
    unsigned char  Data4[8];
} GUID, *LPGUID;

typedef const GUID *LPCGUID;
typedef GUID IID, *LPIID;
typedef GUID CLSID, *LPCLSID;

#ifdef __cplusplus
#define REFGUID const GUID &
#define REFIID  const IID &
#else
#define REFGUID const GUID *
#define REFIID  const IID *
#endif

static inline int InlineIsEqualGUID(const GUID *Left, const GUID *Right)
{
    return memcmp(Left, Right, sizeof(GUID)) == 0;
}

#ifdef __cplusplus
#define IsEqualGUID(Left, Right) InlineIsEqualGUID(&(Left), &(Right))

inline bool operator==(const GUID &Left, const GUID &Right)
{
    return InlineIsEqualGUID(&Left, &Right) != 0;
}

inline bool operator!=(const GUID &Left, const GUID &Right)
{
    return !(Left == Right);
}
#else
#define IsEqualGUID(Left, Right) InlineIsEqualGUID((Left), (Right))
#endif

#define IsEqualIID(Left, Right)   IsEqualGUID(Left, Right)
#define IsEqualCLSID(Left, Right) IsEqualGUID(Left, Right)

#endif /* PINION_WDK_GUIDDEF_H */

/* Outside the guard on purpose: <initguid.h> may come after the first use of this file and changes what
   DEFINE_GUID means. */
#undef DEFINE_GUID
#ifdef INITGUID
#define DEFINE_GUID(name, l, w1, w2, b1, b2, b3, b4, b5, b6, b7, b8) \
    EXTERN_C const GUID name __attribute__((weak));                  \
    const GUID name = { l, w1, w2, { b1, b2, b3, b4, b5, b6, b7, b8 } }
#else
#define DEFINE_GUID(name, l, w1, w2, b1, b2, b3, b4, b5, b6, b7, b8) EXTERN_C const GUID name
#endif
