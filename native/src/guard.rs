//! What bounds one run beside its rows: memory, temporary files, and which files can be opened at all.
//!
//! SQLite calls its allocator and its file system on the thread of the statement, so the bounds of the run in progress are that thread's.

use std::cell::{Cell, RefCell};
use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::sync::{Mutex, OnceLock};
use std::{mem, ptr};

use crate::sqlite::ffi;

pub const VFS_NAME: &CStr = c"tovuk";

thread_local! {
    static MEMORY_LEFT: Cell<i64> = const { Cell::new(i64::MAX / 2) };
    static TEMP_LEFT: Cell<i64> = const { Cell::new(i64::MAX / 2) };
    static FULL: Cell<&'static str> = const { Cell::new("full") };
    static OPENING: RefCell<Option<CString>> = const { RefCell::new(None) };
}

/// Bounds what this thread's statements may take until it is dropped.
pub struct Bounds;

impl Bounds {
    pub fn set(memory_bytes: u64, temp_bytes: u64) -> Bounds {
        MEMORY_LEFT.set(i64::try_from(memory_bytes).unwrap_or(i64::MAX / 2));
        TEMP_LEFT.set(i64::try_from(temp_bytes).unwrap_or(i64::MAX / 2));
        FULL.set("full");
        Bounds
    }
}

impl Drop for Bounds {
    fn drop(&mut self) {
        MEMORY_LEFT.set(i64::MAX / 2);
        TEMP_LEFT.set(i64::MAX / 2);
    }
}

/// What SQLITE_FULL of this thread's run meant: the disk, the file's cap, or the bound on temporary files.
pub fn what_is_full() -> &'static str {
    FULL.get()
}

#[unsafe(no_mangle)]
extern "C" fn tovuk_at_page_cap() {
    FULL.set("page_cap");
}

/// Lets this thread open one file as a database while `work` runs; no other moment lets any be opened.
pub fn opening<T>(path: &str, work: impl FnOnce() -> T) -> T {
    OPENING.set(CString::new(path).ok());
    let outcome = work();
    OPENING.set(None);
    outcome
}

/// The size stands before each piece, as in SQLite's own allocator for systems that cannot tell it.
const HEADER: usize = 16;

unsafe extern "C" fn allocate(size: c_int) -> *mut c_void {
    let size = size as usize;
    if MEMORY_LEFT.get() < size as i64 {
        return ptr::null_mut();
    }
    unsafe {
        let piece = malloc(size + HEADER).cast::<u8>();
        if piece.is_null() {
            return ptr::null_mut();
        }
        MEMORY_LEFT.set(MEMORY_LEFT.get() - size as i64);
        piece.cast::<usize>().write(size);
        piece.add(HEADER).cast()
    }
}

unsafe extern "C" fn size_of(piece: *mut c_void) -> c_int {
    if piece.is_null() {
        return 0;
    }
    unsafe { piece.cast::<u8>().sub(HEADER).cast::<usize>().read() as c_int }
}

unsafe extern "C" fn release(piece: *mut c_void) {
    if piece.is_null() {
        return;
    }
    unsafe {
        let begin = piece.cast::<u8>().sub(HEADER);
        MEMORY_LEFT.set(MEMORY_LEFT.get() + begin.cast::<usize>().read() as i64);
        free(begin.cast());
    }
}

unsafe extern "C" fn resize(piece: *mut c_void, size: c_int) -> *mut c_void {
    let size = size as usize;
    unsafe {
        let begin = piece.cast::<u8>().sub(HEADER);
        let more = size as i64 - begin.cast::<usize>().read() as i64;
        if MEMORY_LEFT.get() < more {
            return ptr::null_mut();
        }
        let moved = realloc(begin.cast(), size + HEADER).cast::<u8>();
        if moved.is_null() {
            return ptr::null_mut();
        }
        MEMORY_LEFT.set(MEMORY_LEFT.get() - more);
        moved.cast::<usize>().write(size);
        moved.add(HEADER).cast()
    }
}

unsafe extern "C" fn round_up(size: c_int) -> c_int {
    (size + 7) & !7
}

unsafe extern "C" fn no_set_up(_: *mut c_void) -> c_int {
    ffi::SQLITE_OK
}

unsafe extern "C" fn no_shut_down(_: *mut c_void) {}

unsafe extern "C" {
    fn malloc(size: usize) -> *mut c_void;
    fn realloc(piece: *mut c_void, size: usize) -> *mut c_void;
    fn free(piece: *mut c_void);
}

/// The methods of a temporary file, with a counting write in the place of the system's.
#[repr(C)]
struct Counted {
    methods: ffi::sqlite3_io_methods,
    system: *const ffi::sqlite3_io_methods,
}

// Written once, before the address is handed out.
unsafe impl Send for Counted {}
unsafe impl Sync for Counted {}

static COUNTED: Mutex<Vec<&'static Counted>> = Mutex::new(Vec::new());
static SYSTEM: OnceLock<System> = OnceLock::new();

struct System(*mut ffi::sqlite3_vfs);
unsafe impl Send for System {}
unsafe impl Sync for System {}

unsafe extern "C" fn counted_write(file: *mut ffi::sqlite3_file, data: *const c_void, length: c_int, offset: i64) -> c_int {
    let left = TEMP_LEFT.get() - i64::from(length);
    if left < 0 {
        FULL.set("temp_full");
        return ffi::SQLITE_FULL;
    }
    TEMP_LEFT.set(left);
    unsafe {
        let counted = (*file).pMethods.cast::<Counted>();
        (*(*counted).system).xWrite.expect("every file can be written")(file, data, length, offset)
    }
}

unsafe fn count(file: *mut ffi::sqlite3_file) {
    unsafe {
        let system = (*file).pMethods;
        if system.is_null() {
            return;
        }
        let mut known = COUNTED.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let counted = known.iter().copied().find(|counted| ptr::eq(counted.system, system)).unwrap_or_else(|| {
            let mut methods = ptr::read(system);
            methods.xWrite = Some(counted_write);
            let counted: &'static Counted = Box::leak(Box::new(Counted { methods, system }));
            known.push(counted);
            counted
        });
        (*file).pMethods = &counted.methods;
    }
}

unsafe extern "C" fn open(vfs: *mut ffi::sqlite3_vfs, name: *const c_char, file: *mut ffi::sqlite3_file, flags: c_int, out: *mut c_int) -> c_int {
    const TEMPORARY: c_int = ffi::SQLITE_OPEN_TEMP_DB | ffi::SQLITE_OPEN_TRANSIENT_DB | ffi::SQLITE_OPEN_TEMP_JOURNAL | ffi::SQLITE_OPEN_SUBJOURNAL;
    const NAMED: c_int = ffi::SQLITE_OPEN_MAIN_JOURNAL | ffi::SQLITE_OPEN_WAL;
    let Some(System(system)) = SYSTEM.get() else { return ffi::SQLITE_CANTOPEN };
    let temporary = flags & TEMPORARY != 0 && name.is_null();
    let permitted = if flags & ffi::SQLITE_OPEN_MAIN_DB != 0 {
        OPENING.with_borrow(|path| path.as_ref().is_some_and(|path| !name.is_null() && unsafe { CStr::from_ptr(name) } == path.as_c_str()))
    } else {
        temporary || flags & NAMED != 0
    };
    unsafe {
        if !permitted {
            (*file).pMethods = ptr::null();
            return ffi::SQLITE_CANTOPEN;
        }
        let code = (**system).xOpen.expect("the system's files can be opened")(vfs, name, file, flags, out);
        if code == ffi::SQLITE_OK && temporary {
            count(file);
        }
        code
    }
}

/// Sets SQLite up, once in the process.
pub fn initialize() -> Result<(), String> {
    if SYSTEM.get().is_some() {
        return Ok(());
    }
    let methods = ffi::sqlite3_mem_methods {
        xMalloc: Some(allocate),
        xFree: Some(release),
        xRealloc: Some(resize),
        xSize: Some(size_of),
        xRoundup: Some(round_up),
        xInit: Some(no_set_up),
        xShutdown: Some(no_shut_down),
        pAppData: ptr::null_mut(),
    };
    unsafe {
        let wanted = |code: c_int, what: &str| if code == ffi::SQLITE_OK { Ok(()) } else { Err(format!("SQLite: {what}: {code}")) };
        wanted(ffi::sqlite3_config(ffi::SQLITE_CONFIG_MALLOC, &raw const methods), "allocator")?;
        wanted(ffi::sqlite3_initialize(), "initialize")?;
        let system = ffi::sqlite3_vfs_find(ptr::null());
        if system.is_null() {
            return Err("SQLite: no file system".to_owned());
        }
        let mut own: ffi::sqlite3_vfs = mem::zeroed();
        ptr::copy_nonoverlapping(system, &mut own, 1);
        own.pNext = ptr::null_mut();
        own.zName = VFS_NAME.as_ptr();
        own.xOpen = Some(open);
        let _ = SYSTEM.set(System(system));
        wanted(ffi::sqlite3_vfs_register(Box::leak(Box::new(own)), 0), "file system")
    }
}
