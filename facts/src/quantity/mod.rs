//! `resource.Quantity`: exact decimal numbers with SI suffixes, as Kubernetes reads, prints and counts them.

#[cfg(test)]
mod tests;

use std::cmp::Ordering;
use std::fmt;
use std::ops::{Add, AddAssign, Neg, Sub, SubAssign};
use std::str::FromStr;

/// An exact number: `mantissa * 10^exponent`, with the class of suffix that it was written with.
///
/// Equality and order are by value: `1000m == 1`. Precision ends at 10^-9 (rounded away from zero) and numbers keep at
/// least 36 digits; more are rounded away from zero.
#[derive(Clone, Copy, Debug)]
pub struct Quantity {
    mantissa: i128,
    exponent: i32,
    format: Format,
}

/// The class of suffixes that a quantity prints with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// `m`, `k`, `M`, ...
    #[default]
    DecimalSi,
    /// `Ki`, `Mi`, ...
    BinarySi,
    /// `e3`, `e6`, ...
    DecimalExponent,
}

/// Why a text is no quantity.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    #[error("quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'")]
    Format,
    #[error("unable to parse quantity's suffix")]
    Suffix,
}

/// The digits that a mantissa keeps: any two such numbers can be added without overflow, and each be printed with up to
/// two zeros more.
const DIGITS: u32 = 36;
const NANO: i32 = -9;
const DECIMAL: [(&str, i32); 10] =
    [("n", -9), ("u", -6), ("m", -3), ("", 0), ("k", 3), ("M", 6), ("G", 9), ("T", 12), ("P", 15), ("E", 18)];
const BINARY: [&str; 6] = ["Ki", "Mi", "Gi", "Ti", "Pi", "Ei"];

impl Quantity {
    /// Zero.
    pub const fn zero() -> Self {
        Self { mantissa: 0, exponent: 0, format: Format::DecimalSi }
    }

    /// A whole number.
    pub const fn new(value: i64, format: Format) -> Self {
        Self { mantissa: value as i128, exponent: 0, format }
    }

    /// A number of thousandths.
    pub const fn from_milli(value: i64, format: Format) -> Self {
        Self { mantissa: value as i128, exponent: -3, format }
    }

    /// A number of billionths.
    pub const fn from_nano(value: i64, format: Format) -> Self {
        Self { mantissa: value as i128, exponent: NANO, format }
    }

    /// The quantity that a JSON string or number says.
    pub fn of_value(value: &serde_json::Value) -> Option<Self> {
        value.as_str().map_or_else(|| value.to_string().parse(), str::parse).ok()
    }

    /// The class of suffix.
    pub const fn format(self) -> Format {
        self.format
    }

    /// Whether it is 0.
    pub const fn is_zero(self) -> bool {
        self.mantissa == 0
    }

    /// -1, 0 or 1.
    pub const fn signum(self) -> i32 {
        self.mantissa.signum() as i32
    }

    /// The whole number that is not smaller in magnitude (`1.1` is 2), at most what an `i64` holds.
    pub fn value(self) -> i64 {
        self.scaled(0)
    }

    /// The number of thousandths, rounded away from zero, at most what an `i64` holds.
    pub fn milli_value(self) -> i64 {
        self.scaled(-3)
    }

    /// The same, rounded away from zero to thousandths: amounts of resources are no finer (upstream's
    /// `SetDefaults_ResourceList`).
    pub fn to_milli(self) -> Self {
        if self.exponent >= -3 {
            return self;
        }
        Self { mantissa: divide_away(self.mantissa, -3 - self.exponent), exponent: -3, ..self }
    }

    /// The nearest floating point number.
    pub fn to_f64(self) -> f64 {
        self.mantissa as f64 * 10f64.powi(self.exponent)
    }

    /// The number of `10^exponent`, rounded away from zero, at most what an `i64` holds.
    pub fn scaled(self, exponent: i32) -> i64 {
        let shift = self.exponent.saturating_sub(exponent);
        let wide = if shift >= 0 { saturating_shift(self.mantissa, shift) } else { divide_away(self.mantissa, -shift) };
        i64::try_from(wide).unwrap_or(if wide < 0 { i64::MIN } else { i64::MAX })
    }

    /// The same with precision of 10^-9 and few enough digits.
    fn rounded(mut self) -> Self {
        if self.exponent < NANO {
            self.mantissa = divide_away(self.mantissa, NANO - self.exponent);
            self.exponent = NANO;
        }
        let limit = 10i128.pow(DIGITS);
        while self.mantissa.abs() >= limit {
            self.mantissa = divide_away(self.mantissa, 1);
            self.exponent = self.exponent.saturating_add(1);
        }
        self
    }

    /// Without zeros at the end of the mantissa.
    fn stripped(mut self) -> (i128, i32) {
        if self.mantissa == 0 {
            return (0, 0);
        }
        while self.mantissa % 10 == 0 {
            self.mantissa /= 10;
            self.exponent = self.exponent.saturating_add(1);
        }
        (self.mantissa, self.exponent)
    }

    /// Mantissa and exponent with the exponent a multiple of three, as large as possible.
    fn thousands(self) -> (i128, i32) {
        let (mut mantissa, mut exponent) = self.stripped();
        while exponent % 3 != 0 {
            mantissa = mantissa.saturating_mul(10);
            exponent -= 1;
        }
        (mantissa, exponent)
    }

    fn print_decimal(self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (mut mantissa, mut exponent) = self.thousands();
        while exponent > 18 {
            let Some(wider) = mantissa.checked_mul(1000) else { break };
            mantissa = wider;
            exponent -= 3;
        }
        match DECIMAL.iter().find(|(_, power)| *power == exponent) {
            Some((suffix, _)) => write!(f, "{mantissa}{suffix}"),
            None => write!(f, "{mantissa}e{exponent}"),
        }
    }

    fn print_binary(self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shift = self.exponent;
        let mut value =
            if shift >= 0 { saturating_shift(self.mantissa, shift) } else { divide_away(self.mantissa, -shift) };
        let mut power = 0;
        while power < BINARY.len() && value % 1024 == 0 {
            value /= 1024;
            power += 1;
        }
        write!(f, "{value}{}", if power == 0 { "" } else { BINARY[power - 1] })
    }

    fn is_whole(self) -> bool {
        self.stripped().1 >= 0
    }

    fn is_below_1024(self) -> bool {
        let limit = Self::new(1024, Format::DecimalSi);
        self < limit && self > -limit
    }
}

impl fmt::Display for Quantity {
    /// The canonical form: no fraction, the largest suffix.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.format {
            _ if self.is_zero() => f.write_str("0"),
            // Another suffix loses nothing.
            Format::BinarySi if !self.is_below_1024() && self.is_whole() => self.print_binary(f),
            Format::DecimalSi | Format::BinarySi => self.print_decimal(f),
            Format::DecimalExponent => match self.thousands() {
                (mantissa, 0) => write!(f, "{mantissa}"),
                (mantissa, exponent) => write!(f, "{mantissa}e{exponent}"),
            },
        }
    }
}

impl FromStr for Quantity {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        if text.is_empty() {
            return Err(Error::Format);
        }
        let (negative, unsigned) = match text.as_bytes()[0] {
            b'-' => (true, &text[1..]),
            b'+' => (false, &text[1..]),
            _ => (false, text),
        };
        let (whole, rest) = split_digits(unsigned);
        let (fraction, suffix) = rest.strip_prefix('.').map_or(("", rest), split_digits);
        check_suffix(suffix)?;
        let (shift, exponent, format) = read_suffix(suffix)?;
        let mut quantity = read_digits(whole, fraction);
        quantity.exponent = quantity.exponent.saturating_add(exponent);
        quantity.format = format;
        if shift > 0 {
            quantity = binary(quantity, shift);
        }
        quantity = quantity.rounded();
        Ok(if negative { -quantity } else { quantity })
    }
}

fn split_digits(text: &str) -> (&str, &str) {
    text.split_at(text.bytes().position(|byte| !byte.is_ascii_digit()).unwrap_or(text.len()))
}

/// Letters of suffixes, a sign, digits: whatever their order within the letters.
fn check_suffix(suffix: &str) -> Result<(), Error> {
    let rest = suffix.trim_start_matches(|c| "eEinumkKMGTP".contains(c));
    let rest = rest.strip_prefix(['-', '+']).unwrap_or(rest);
    if rest.bytes().all(|byte| byte.is_ascii_digit()) { Ok(()) } else { Err(Error::Format) }
}

/// The power of two, the power of ten and the class of a suffix.
fn read_suffix(suffix: &str) -> Result<(u32, i32, Format), Error> {
    if let Some((_, exponent)) = DECIMAL.iter().find(|(name, _)| *name == suffix) {
        return Ok((0, *exponent, Format::DecimalSi));
    }
    if let Some(at) = BINARY.iter().position(|name| *name == suffix) {
        return Ok((10 * (at as u32 + 1), 0, Format::BinarySi));
    }
    let exponent = suffix.strip_prefix(['e', 'E']).ok_or(Error::Suffix)?;
    let exponent: i64 = exponent.parse().map_err(|_| Error::Suffix)?;
    // Beyond this nothing that can be represented is left; it also keeps arithmetic on exponents from overflowing.
    let exponent = i32::try_from(exponent.clamp(-1_000_000, 1_000_000)).map_err(|_| Error::Suffix)?;
    Ok((0, exponent, Format::DecimalExponent))
}

/// Digits before and after the point; more than fit are rounded up.
fn read_digits(whole: &str, fraction: &str) -> Quantity {
    let mut quantity = Quantity::zero();
    let mut lost = false;
    for (digit, is_fraction) in whole.bytes().map(|b| (b, false)).chain(fraction.bytes().map(|b| (b, true))) {
        let digit = i128::from(digit - b'0');
        if quantity.mantissa < 10i128.pow(DIGITS - 1) {
            quantity.mantissa = quantity.mantissa * 10 + digit;
            quantity.exponent -= i32::from(is_fraction);
        } else {
            lost |= digit != 0;
            quantity.exponent = quantity.exponent.saturating_add(i32::from(!is_fraction));
        }
    }
    quantity.mantissa += i128::from(lost);
    quantity
}

/// `quantity * 2^shift`, capped at what an `i64` holds. Less than one is no longer a binary quantity.
fn binary(quantity: Quantity, shift: u32) -> Quantity {
    let cap = Quantity::new(i64::MAX, Format::BinarySi);
    if quantity > cap {
        return cap;
    }
    // At most 19 digits are left of the point, so this drops digits far below 10^-9 only.
    let mut product = quantity;
    while product.mantissa.checked_shl(shift).is_none_or(|wide| wide >> shift != product.mantissa) {
        product.mantissa = divide_away(product.mantissa, 1);
        product.exponent += 1;
    }
    product.mantissa <<= shift;
    let mut product = product.rounded();
    if product > cap {
        return cap;
    }
    if !product.is_zero() && product < Quantity::new(1, Format::BinarySi) {
        product.format = Format::DecimalSi;
    }
    product
}

/// `mantissa * 10^power`, at most what an `i128` holds.
fn saturating_shift(mantissa: i128, power: i32) -> i128 {
    let mut wide = mantissa;
    for _ in 0..power.min(40) {
        wide = wide.saturating_mul(10);
    }
    wide
}

/// `mantissa / 10^power`, rounded away from zero.
fn divide_away(mantissa: i128, power: i32) -> i128 {
    let Some(divisor) = u32::try_from(power).ok().and_then(|power| 10i128.checked_pow(power)) else {
        return mantissa.signum();
    };
    mantissa / divisor + if mantissa % divisor == 0 { 0 } else { mantissa.signum() }
}

impl Ord for Quantity {
    fn cmp(&self, other: &Self) -> Ordering {
        let ((a, a_power), (b, b_power)) = (self.stripped(), other.stripped());
        if a.signum() != b.signum() || a == 0 {
            return a.signum().cmp(&b.signum());
        }
        let size = |mantissa: i128, power: i32| i64::from(mantissa.unsigned_abs().ilog10()) + i64::from(power);
        let by_size = size(a, a_power).cmp(&size(b, b_power));
        if by_size != Ordering::Equal {
            return if a > 0 { by_size } else { by_size.reverse() };
        }
        // Of equal size, so the powers differ by fewer digits than a mantissa can have.
        let low = a_power.min(b_power);
        saturating_shift(a, a_power - low).cmp(&saturating_shift(b, b_power - low))
    }
}

impl PartialOrd for Quantity {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Quantity {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Quantity {}

impl Default for Quantity {
    fn default() -> Self {
        Self::zero()
    }
}

impl Neg for Quantity {
    type Output = Self;

    fn neg(self) -> Self {
        Self { mantissa: -self.mantissa, ..self }
    }
}

impl Add for Quantity {
    type Output = Self;

    /// The sum, in the class of the first number unless that is zero.
    fn add(self, other: Self) -> Self {
        if self.is_zero() {
            return other;
        }
        if other.is_zero() {
            return self;
        }
        let (high, low) = if self.exponent >= other.exponent { (self, other) } else { (other, self) };
        // Brings the number with the higher exponent down as far as its digits allow, the other one up by the rest.
        let (mut mantissa, mut exponent) = (high.mantissa, high.exponent);
        while exponent > low.exponent && mantissa.abs() < 10i128.pow(DIGITS - 1) {
            mantissa *= 10;
            exponent -= 1;
        }
        let other = divide_away(low.mantissa, exponent - low.exponent);
        Self { mantissa: mantissa + other, exponent, format: self.format }.rounded()
    }
}

impl Sub for Quantity {
    type Output = Self;

    fn sub(self, other: Self) -> Self {
        let difference = self + -other;
        Self { format: if self.is_zero() { other.format } else { self.format }, ..difference }
    }
}

impl AddAssign for Quantity {
    fn add_assign(&mut self, other: Self) {
        *self = *self + other;
    }
}

impl SubAssign for Quantity {
    fn sub_assign(&mut self, other: Self) {
        *self = *self - other;
    }
}
