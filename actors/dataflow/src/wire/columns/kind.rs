//! Kinds of columns and of enum variants.

macro_rules! tags {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident),* $(,)? }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(u8)]
        pub(super) enum $name { $($(#[$variant_doc])* $variant),* }

        impl $name {
            /// The kind a byte stands for.
            pub(super) fn from_byte(byte: u8) -> Option<Self> {
                const ALL: &[$name] = &[$($name::$variant),*];
                ALL.get(byte as usize).copied()
            }
        }
    };
}

tags! {
    /// What a column holds.
    Kind {
        /// Nothing was ever written here.
        Unseen,
        /// Units, and structs and tuples without fields.
        Unit,
        Bool,
        I8,
        I16,
        I32,
        I64,
        I128,
        U8,
        U16,
        U32,
        U64,
        U128,
        F32,
        F64,
        Char,
        Text,
        Bytes,
        Option,
        Seq,
        Map,
        Tuple,
        Struct,
        Enum,
    }
}

tags! {
    /// What a variant of an enum holds.
    VariantKind {
        Unit,
        Newtype,
        Tuple,
        Struct,
    }
}

impl Kind {
    /// Bytes a value of fixed width takes.
    pub(super) fn width(self) -> Option<usize> {
        match self {
            Kind::Unit | Kind::Bool | Kind::I8 | Kind::U8 => Some(1),
            Kind::I16 | Kind::U16 => Some(2),
            Kind::I32 | Kind::U32 | Kind::F32 | Kind::Char => Some(4),
            Kind::I64 | Kind::U64 | Kind::F64 => Some(8),
            Kind::I128 | Kind::U128 => Some(16),
            _ => None,
        }
    }
}
