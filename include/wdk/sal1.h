/* SPDX-License-Identifier: MIT */
/*
 * The source annotation language, first vintage: __in, __out_bcount(n) ... All expand to nothing.
 *
 * Host headers use some of these names for their own purposes (libstdc++ has parameters called __in and
 * __out, Linux has fields called __reserved): include such headers first, or define PINION_HOST_CODE and do
 * without these names.
 */
#ifndef PINION_WDK_SAL1_H
#define PINION_WDK_SAL1_H

/*
 * Names that libstdc++ uses itself. A C++ driver of that age, which includes none of its headers behind these, asks for
 * them with PINION_SAL1.
 */
#if !defined(__cplusplus) || defined(PINION_SAL1)
#define __in
#define __out
#define __valid
#define __pre
#define __success(...)
#define __range(...)
#define __bound(...)
#endif

/* Parameters */
#define __in_opt
#define __out_opt
#define __inout
#define __inout_opt
#define __in_z
#define __in_z_opt
#define __out_z
#define __inout_z
#define __inout_z_opt
#if !defined(__aarch64__) || defined(PINION_SAL1)       /* <signal.h> has such a field there */
#define __reserved
#endif
#define __kernel_entry
#define __field_nullterminated
#define __allocator
#define __deref_in
#define __deref_in_opt
#define __deref_out
#define __deref_out_opt
#define __deref_opt_out
#define __deref_opt_out_opt
#define __deref_inout
#define __deref_inout_opt
#define __deref_out_z
#define __deref_out_z_opt
#define __deref_in_z
#define __nullterminated
#define __nullnullterminated
#define __callback
#define __checkReturn
#define __typefix_none
#define __fallthrough
#define __format_string
#define __blocksOn_none
#define __notvalid
#define __maybenull
#define __notnull
#define __readonly
#define __notreadonly
#define __refparam
#define __post
#define __deref
#define __override

/* Sizes */
#define __in_xcount(...)
#define __in_xcount_opt(...)
#define __out_xcount(...)
#define __out_xcount_opt(...)
#define __inout_xcount(...)
#define __field_xcount(...)
#define __in_ecount(...)
#define __in_bcount(...)
#define __in_ecount_opt(...)
#define __in_bcount_opt(...)
#define __in_ecount_z(...)
#define __in_bcount_z(...)
#define __out_ecount(...)
#define __out_bcount(...)
#define __out_ecount_opt(...)
#define __out_bcount_opt(...)
#define __out_ecount_z(...)
#define __out_bcount_z(...)
#define __out_ecount_full(...)
#define __out_bcount_full(...)
#define __out_ecount_full_opt(...)
#define __out_bcount_full_opt(...)
#define __inout_ecount(...)
#define __inout_bcount(...)
#define __inout_ecount_opt(...)
#define __inout_bcount_opt(...)
#define __inout_ecount_z(...)
#define __inout_bcount_z(...)
#define __inout_ecount_full(...)
#define __inout_bcount_full(...)
#define __deref_out_ecount(...)
#define __deref_out_bcount(...)
#define __deref_out_ecount_opt(...)
#define __deref_out_bcount_opt(...)
#define __deref_in_ecount(...)
#define __deref_in_bcount(...)
#define __deref_inout_ecount(...)
#define __deref_inout_bcount(...)
#define __deref_opt_out_ecount(...)
#define __deref_opt_out_bcount(...)
#define __field_ecount(...)
#define __field_bcount(...)
#define __field_ecount_opt(...)
#define __field_bcount_opt(...)
#define __field_ecount_part(...)
#define __field_bcount_part(...)
#define __field_ecount_full(...)
#define __field_bcount_full(...)
#define __struct_bcount(...)
#define __out_ecount_part(...)
#define __out_bcount_part(...)
#define __out_ecount_part_opt(...)
#define __out_bcount_part_opt(...)
#define __inout_ecount_part(...)
#define __inout_bcount_part(...)
#define __inout_ecount_part_opt(...)
#define __inout_bcount_part_opt(...)
#define __deref_out_ecount_part(...)
#define __deref_out_bcount_part(...)
#define __ecount(...)
#define __bcount(...)
#define __xcount(...)

/* Conditions */
#define __in_range(...)
#define __deref_in_range(...)
#define __deref_out_range(...)
#define __deref_inout_range(...)
#define __in_data_source(...)
#define __out_data_source(...)
#define __out_range(...)
#define __field_range(...)
#define __blocksOn(...)
#define __typefix(...)
#define __control_entrypoint(...)
#define __analysis_assume_nullterminated(...)
#define __analysis_hint(...)
#define __inner_control_entrypoint(...)
#define __inner_data_entrypoint(...)
#define __data_entrypoint(...)
#define __file_parser(...)
#define __encoded_array(...)
#define __encoded_pointer(...)
#define __format_string_at(...)

#endif /* PINION_WDK_SAL1_H */
