use std::{fmt, io};

/// A request to the kernel about a network device that failed, with its name.
#[derive(Debug)]
pub struct DeviceError {
    operation: String,
    source: io::Error,
}

impl DeviceError {
    /// `operation` completes the sentence "cannot ...".
    pub(crate) fn new(operation: impl Into<String>, source: io::Error) -> Self {
        Self { operation: operation.into(), source }
    }

    /// The operation, as the end of a sentence that begins with "cannot".
    pub fn operation(&self) -> &str {
        &self.operation
    }

    /// The errno, if the error came from the kernel.
    pub fn errno(&self) -> Option<i32> {
        self.source.raw_os_error()
    }
}

impl fmt::Display for DeviceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot {}: {}", self.operation, self.source)
    }
}

impl std::error::Error for DeviceError {
    /// The source of the cause; the cause itself is in the message already.
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.source()
    }
}

impl From<DeviceError> for io::Error {
    fn from(error: DeviceError) -> Self {
        io::Error::new(error.source.kind(), error)
    }
}

/// Adds the name of the operation to the error of a system call.
pub(crate) trait Operation<T> {
    /// Converts the error into a [`DeviceError`]; `operation` completes "cannot ...".
    fn operation(self, operation: impl FnOnce() -> String) -> Result<T, DeviceError>;
}

impl<T> Operation<T> for nix::Result<T> {
    fn operation(self, operation: impl FnOnce() -> String) -> Result<T, DeviceError> {
        self.map_err(|errno| DeviceError::new(operation(), errno.into()))
    }
}

impl<T> Operation<T> for io::Result<T> {
    fn operation(self, operation: impl FnOnce() -> String) -> Result<T, DeviceError> {
        self.map_err(|error| DeviceError::new(operation(), error))
    }
}
